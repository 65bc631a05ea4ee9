"""Which finished cells keep what they trained."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from orchestrator.driver.rows import finalists
from orchestrator.driver.weights import KeptWeights
from orchestrator.ledger import Ledger, TrialRecord
from orchestrator.ledger.cells import WEIGHTS

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
    weights, ended = KeptWeights(ledger, 2), []
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
    weights = KeptWeights(ledger, 0)
    for number in range(3):
        weights.ended(trial(ledger, number, VALUES[number]))
    assert holders(ledger) == {"1-1", "1-2"}


def test_a_finalist_keeps_cells_that_it_shares(ledger: Ledger) -> None:
    weights = KeptWeights(ledger, 1)
    weights.ended(trial(ledger, 0, 0.7))
    weights.ended(trial(ledger, 1, 0.6, keys=["0-1", "other"]))
    assert holders(ledger) == {"0-1", "0-2"}


def test_pruned_trials_drop_theirs_running_and_failed_ones_keep_them(ledger: Ledger) -> None:
    weights = KeptWeights(ledger, 1)
    for number, state in enumerate(("pruned", "failed", "running")):
        weights.ended(trial(ledger, number, None, state=state))
    assert holders(ledger) == {"1-1", "1-2", "2-1", "2-2"}


def test_small_weights_stay(ledger: Ledger) -> None:
    weights = KeptWeights(ledger, 1)
    for number in range(3):
        weights.ended(trial(ledger, number, VALUES[number], point={"method": "mmap"}))
    assert len(holders(ledger)) == 6


def test_reference_rows_drop_theirs_once_they_are_scored(ledger: Ledger) -> None:
    weights = KeptWeights(ledger, 1)
    best, start = trial(ledger, 0, 0.7), trial(ledger, -1, 0.2, keys=["start-1", "start-2"])
    weights.ended(best)
    ledger.commit_test("start-1", {"metrics": {}}, {})
    weights.scored([(0, best), ("zero_step", start)], ledger)
    assert holders(ledger) == {"0-1", "0-2", "start-2"}
