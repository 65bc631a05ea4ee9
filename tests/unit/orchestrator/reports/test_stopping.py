"""What results say of trials that were stopped early, from made-up records."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from orchestrator.ledger import TrialRecord
from orchestrator.reports.stopping import in_words, replay, stopping
from orchestrator.search.stop_rule import StopRule
from orchestrator.statistics.stages import go_on, stopped_in_words
from orchestrator.study import Study, load_study


@pytest.fixture(scope="module")
def study() -> Study:
    """Three seeds, five epochs, one split."""
    return load_study("demo", ["search.scheduler=seeds", "search.reduction_factor=3"])


def epochs(values: Sequence[float], last: int = 5) -> list[dict[str, object]]:
    return [
        {"epoch": e, "mean": sum(values) / len(values), "values": list(values)} for e in range(1, last + 1)
    ]


def trial(number: int, values: Sequence[float], last: int = 5, seconds: float = 30.0) -> TrialRecord:
    """A trial that has trained as many seeds as it has values."""
    whole = len(values) == 3 and last == 5
    record = TrialRecord(number=number, epochs=epochs(values, last), device_seconds=seconds)
    record.state = "complete" if whole else "pruned"
    record.point = {"recipe": {"epochs": 5}}
    record.attributes = {"seeds": len(values)}
    if not whole:
        record.attributes["stopped_by"] = "scheduler"
        record.attributes["stopped_at"] = {"seeds": len(values), "epoch": last}
    return record


def test_what_was_saved_counts_cells_and_epochs_that_stopped_trials_did_not_train(study: Study) -> None:
    trials = [
        trial(0, [0.6, 0.6, 0.6]),
        trial(1, [0.5, 0.51, 0.5]),
        trial(2, [0.3], seconds=10.0),
        trial(3, [0.2, 0.2, 0.2], last=3, seconds=18.0),
    ]
    found = stopping(study, trials)
    assert found is not None and found["scheduler"] == "seeds"
    assert found["cells"] == {"trained": 7, "saved": 5}
    assert found["cell_epochs"] == {"trained": 15 + 15 + 5 + 9, "saved": 10 + 6}
    assert found["device_seconds"] == {"trained": 88.0, "saved": 32.0}, "complete trials took 2 s an epoch"
    assert found["stopped"] == {"after 1 of 3 seeds": 1, "after epoch 3": 1}


def test_a_trial_that_went_on_counts_every_cell_once(study: Study) -> None:
    record = trial(0, [0.6])
    go_on(record, 1, 3)
    record.epochs, record.state = epochs([0.6, 0.5, 0.4]), "complete"
    found = stopping(study, [record])
    assert found is not None
    assert found["cell_epochs"] == {"trained": 15, "saved": 0} and found["cells"]["trained"] == 3


def test_trials_that_a_user_cancelled_count_for_nothing(study: Study) -> None:
    cancelled = trial(1, [0.3])
    cancelled.attributes["stopped_by"] = "user"
    found = stopping(study, [trial(0, [0.6, 0.6, 0.6]), cancelled])
    assert found is not None and not found["stopped"] and found["cells"] == {"trained": 3, "saved": 0}
    assert in_words(found) == []


def test_without_a_scheduler_there_is_nothing_to_say() -> None:
    plain = load_study("demo", ["search.scheduler=none"])
    assert stopping(plain, [trial(0, [0.6, 0.6, 0.6])]) is None and in_words(None) == []


def test_where_a_trial_was_stopped_is_said_in_words() -> None:
    assert stopped_in_words(trial(0, [0.1]), 3) == "after 1 of 3 seeds"
    assert stopped_in_words(trial(0, [0.1], last=3), 3) == "after 1 of 3 seeds, in epoch 3"
    assert stopped_in_words(trial(0, [0.1] * 3, last=3), 3) == "after epoch 3"


def test_finished_trials_are_replayed_in_many_orders(study: Study) -> None:
    generator = random.Random(4)
    trials = [trial(n, [0.4 + 0.02 * n + generator.gauss(0, 0.01) for _ in range(3)]) for n in range(10)]
    found = stopping(study, [*trials, trial(10, [0.1])])
    assert found is not None and found["replayed"]["trials"] == 10
    assert found["replayed"]["trained"] < 0.8, "two trials with all seeds, one seed of most others"
    assert 0 <= found["replayed"]["regret"] <= found["replayed"]["worst"]
    said = in_words(found)
    assert len(said) == 2 and "1 after 1 of 3 seeds" in said[0] and "10 complete trials" in said[1]


def test_a_rule_that_stops_nothing_loses_nothing_and_trains_everything() -> None:
    curves = [{e: [0.1 * n + 0.01 * e] * 2 for e in (1, 2)} for n in range(4)]
    found = replay(lambda: StopRule(seeds=2, epochs=2), curves, orders=7)
    assert (found.trained, found.regret, found.worst) == (1.0, 0.0, 0.0)


def test_noise_shows_in_what_the_rule_would_have_lost() -> None:
    """The best has a bad first seed, by more than the chance allows for: in most orders it is stopped."""
    steady = [{1: [0.60 - 0.01 * n, 0.61 - 0.01 * n, 0.60 - 0.01 * n]} for n in range(6)]
    curves = [*steady, {1: [0.50, 0.75, 0.75]}]
    found = replay(lambda: StopRule(seeds=3, epochs=1, stages=(1, 3)), curves)
    assert 0 < found.regret < found.worst == pytest.approx(2.0 / 3 - 1.81 / 3)
