"""Which finished cells keep what they trained."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from orchestrator.driver.weights import KeptWeights, drop_weights
from orchestrator.ledger import Invocation, Ledger, StudyStore, TrialRecord
from orchestrator.ledger.cells import WEIGHTS
from orchestrator.rows.scoring import finalists

VALUES = (0.5, 0.7, 0.6, 0.7, 0.4)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path)


def trial(ledger: Ledger, number: int, value: float | None, **changes: Any) -> TrialRecord:
    """A complete trial of full fine-tuning with two finished cells."""
    keys = changes.pop("keys", [f"{number}-{seed}" for seed in (1, 2)])
    for key in keys:
        ledger.commit(key, {}, {WEIGHTS: b"w", "predictions.parquet": b"p"})
    fields = {"state": "complete", "point": {"method": "full_ft"}, **changes}
    return TrialRecord(number=number, value=value, cells=[{"key": key} for key in keys], **fields)


def holders(ledger: Ledger) -> set[str]:
    names = [path.split("/") for path in ledger.storage.files("cells")]
    return {key for key, name in names if name.startswith("prompts.") and name.endswith(".safetensors")}


@pytest.mark.parametrize("order", list(permutations(range(5)))[::9])
def test_after_every_trial_the_finalists_so_far_have_weights(ledger: Ledger, order: tuple[int, ...]) -> None:
    weights, ended = KeptWeights(ledger, StudyStore(ledger.storage, "own"), 2), []
    for number in order:
        ended.append(trial(ledger, number, VALUES[number]))
        weights.ended(ended[-1])
        expected = {key for record in finalists(ended, 2) for key in record.keys}
        assert holders(ledger) == expected
    assert holders(ledger) == {"1-1", "1-2", "3-1", "3-2"}
    for record in ended:
        for key in record.keys:
            assert ledger.get(key, verify=True) is not None
            assert ledger.read_file(key, "predictions.parquet") == b"p"


def test_the_winner_keeps_its_weights_even_without_finalists(ledger: Ledger) -> None:
    weights = KeptWeights(ledger, StudyStore(ledger.storage, "own"), 0)
    for number in range(3):
        weights.ended(trial(ledger, number, VALUES[number]))
    assert holders(ledger) == {"1-1", "1-2"}


def test_a_finalist_keeps_cells_that_it_shares(ledger: Ledger) -> None:
    weights = KeptWeights(ledger, StudyStore(ledger.storage, "own"), 1)
    weights.ended(trial(ledger, 0, 0.7))
    weights.ended(trial(ledger, 1, 0.6, keys=["0-1", "other"]))
    assert holders(ledger) == {"0-1", "0-2"}


def test_pruned_trials_drop_theirs_running_and_failed_ones_keep_them(ledger: Ledger) -> None:
    weights = KeptWeights(ledger, StudyStore(ledger.storage, "own"), 1)
    for number, state in enumerate(("pruned", "failed", "running")):
        weights.ended(trial(ledger, number, None, state=state))
    assert holders(ledger) == {"1-1", "1-2", "2-1", "2-2"}


def test_small_weights_stay(ledger: Ledger) -> None:
    weights = KeptWeights(ledger, StudyStore(ledger.storage, "own"), 1)
    for number in range(3):
        weights.ended(trial(ledger, number, VALUES[number], point={"method": "mmap"}))
    assert len(holders(ledger)) == 6


def test_reference_rows_drop_theirs_once_they_are_scored(ledger: Ledger) -> None:
    weights = KeptWeights(ledger, StudyStore(ledger.storage, "own"), 1)
    best, start = trial(ledger, 0, 0.7), trial(ledger, -1, 0.2, keys=["start-1", "start-2"])
    weights.ended(best)
    ledger.commit_test("start-1", {"metrics": {}}, {})
    weights.scored([(0, best), ("zero_step", start)], ledger)
    assert holders(ledger) == {"0-1", "0-2", "start-2"}


def test_trials_of_earlier_invocations_are_sorted_out_at_once(ledger: Ledger) -> None:
    weights = KeptWeights(ledger, StudyStore(ledger.storage, "own"), 2)
    weights.ended(*(trial(ledger, number, VALUES[number]) for number in range(5)))
    assert holders(ledger) == {"1-1", "1-2", "3-1", "3-2"}


SHARED = "0-1"


@pytest.fixture
def other(ledger: Ledger) -> StudyStore:
    """Another study, whose trial 0 is one of two that are complete."""
    store = StudyStore(ledger.storage, "other")
    store.save_study({"name": "other", "finalists": 1})
    return store


def loser_of_another_study(ledger: Ledger) -> list[str]:
    """Drops what trial 0 of this study trained, since trial 1 is better; what the user is told."""
    told: list[str] = []
    weights = KeptWeights(ledger, StudyStore(ledger.storage, "own"), 1, told.append)
    weights.ended(trial(ledger, 0, 0.5))
    weights.ended(trial(ledger, 1, 0.7))
    return told


def as_finalist(store: StudyStore, ledger: Ledger) -> None:
    store.save_trial(trial(ledger, 0, 0.6, keys=[SHARED]))
    store.save_trial(trial(ledger, 1, 0.5, keys=["0-2"]))


def as_running(store: StudyStore, ledger: Ledger) -> None:
    store.save_trial(trial(ledger, 0, None, keys=[SHARED], state="running"))


def as_failed(store: StudyStore, ledger: Ledger) -> None:
    store.save_trial(trial(ledger, 0, None, keys=[SHARED], state="failed"))


def as_confirmed_now(store: StudyStore, ledger: Ledger) -> None:
    store.save_trial(trial(ledger, 0, 0.1, keys=[SHARED]))
    store.save_trial(trial(ledger, 1, 0.5, keys=["else"]))
    store.save_invocation(Invocation(scoring=[SHARED]))


def as_reference_row(store: StudyStore, ledger: Ledger) -> None:
    store.save_baseline("zero_step", {"state": "complete", "cells": [{"key": SHARED}]})


def as_row_of_a_comparison(store: StudyStore, ledger: Ledger) -> None:
    store.save_row("full_ft", trial(ledger, 0, 0.5, keys=[SHARED]))


@pytest.mark.parametrize(
    "need",
    [as_finalist, as_running, as_failed, as_confirmed_now, as_reference_row, as_row_of_a_comparison],
)
def test_weights_that_another_study_needs_stay(ledger: Ledger, other: StudyStore, need: Any) -> None:
    need(other, ledger)
    assert loser_of_another_study(ledger) == []
    assert holders(ledger) - {"else"} == {SHARED, "1-1", "1-2"}


def as_loser(store: StudyStore, ledger: Ledger) -> None:
    store.save_trial(trial(ledger, 0, 0.6, keys=["else"]))
    store.save_trial(trial(ledger, 1, 0.5, keys=[SHARED]))


def as_pruned(store: StudyStore, ledger: Ledger) -> None:
    store.save_trial(trial(ledger, 0, None, keys=[SHARED], state="pruned"))


def as_confirmed_before(store: StudyStore, ledger: Ledger) -> None:
    as_loser(store, ledger)
    store.save_invocation(Invocation(scoring=[SHARED], outcome="complete"))


def as_row_that_is_scored(store: StudyStore, ledger: Ledger) -> None:
    as_row_of_a_comparison(store, ledger)
    as_reference_row(store, ledger)
    ledger.commit_test(SHARED, {"metrics": {}}, {})


@pytest.mark.parametrize("need", [as_loser, as_pruned, as_confirmed_before, as_row_that_is_scored])
def test_weights_that_no_study_needs_go(ledger: Ledger, other: StudyStore, need: Any) -> None:
    need(other, ledger)
    assert loser_of_another_study(ledger) == []
    assert holders(ledger) - {"else"} == {"1-1", "1-2"}


@pytest.mark.parametrize("path", ["trials/0.json", "rows/a.json", "baselines.json", "study.json"])
def test_where_a_study_cannot_be_read_nothing_is_dropped_and_the_user_is_told(
    ledger: Ledger, other: StudyStore, path: str
) -> None:
    other.save_trial(trial(ledger, 1, 0.5, keys=["else"]))
    ledger.storage.write(f"studies/other/{path}", b"torn")
    ledger.storage.delete("studies/other/study.copy.json")
    (told,) = loser_of_another_study(ledger)
    assert "'other'" in told and path in told
    assert holders(ledger) == {SHARED, "0-2", "1-1", "1-2", "else"}
    told_of_a_comparison: list[str] = []
    drop_weights(ledger, [SHARED], own="compare-x", tell=told_of_a_comparison.append)
    assert SHARED in holders(ledger) and len(told_of_a_comparison) == 1


def test_what_is_no_study_needs_nothing(ledger: Ledger) -> None:
    for name in ("notes.txt", "a b"):
        ledger.storage.write(f"studies/{name}", b"notes")
    assert loser_of_another_study(ledger) == [] and holders(ledger) == {"1-1", "1-2"}


def test_a_trial_that_still_runs_here_keeps_cells_that_it_shares(ledger: Ledger) -> None:
    own = StudyStore(ledger.storage, "own")
    own.save_study({"name": "own", "finalists": 1})
    own.save_trial(trial(ledger, 0, None, keys=["0-1", "0-2"], state="running"))  # as it was written last
    own.save_trial(trial(ledger, 2, None, keys=[SHARED], state="running"))
    assert loser_of_another_study(ledger) == []
    assert holders(ledger) == {SHARED, "1-1", "1-2"}
