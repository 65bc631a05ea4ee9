"""A row as it is shown: the mean of its last scored epoch, with the interval over seeds behind it."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.ledger import TrialRecord
from orchestrator.rows.showing import trial_shown
from orchestrator.statistics.summary import summarize

SEEDS = ("1", "2", "3")
BARE = {"epoch": 1, "mean": 0.5}


def record(*epochs: dict[str, Any], splits: tuple[str, ...] = ("6-shot",)) -> TrialRecord:
    cells = [{"key": f"{split}-{seed}", "split": split, "seed": seed} for split in splits for seed in SEEDS]
    return TrialRecord(number=3, point={}, cells=cells, epochs=list(epochs), parameters=7)


def test_the_interval_is_that_of_the_seeds() -> None:
    shown = trial_shown(record({"epoch": 1, "mean": 0.5, "values": [0.4, 0.5, 0.6]}), {"lr": 1}, "running")
    expected = summarize([0.4, 0.5, 0.6])
    assert (shown.mean, shown.low, shown.high, shown.n) == (0.5, expected.low, expected.high, 3)
    assert (shown.number, shown.state, shown.parameters, shown.epochs) == (3, "running", 7, None)
    own = TrialRecord(number=3, point={"recipe": {"epochs": 300}})
    assert trial_shown(own, {}, "running").epochs == 300


def test_splits_are_averaged_before_seeds_are_compared() -> None:
    epoch = {"epoch": 1, "mean": 0.5, "values": [0.3, 0.4, 0.5, 0.5, 0.6, 0.7]}
    shown = trial_shown(record(epoch, splits=("3-shot", "6-shot")), {}, "complete")
    assert shown.n == 3 and shown.low == pytest.approx(summarize([0.4, 0.5, 0.6]).low)


def test_an_epoch_without_scores_leaves_the_last_scored_one() -> None:
    scored = {"epoch": 1, "mean": 0.5, "values": [0.4, 0.5, 0.6]}
    assert trial_shown(record(scored, {"epoch": 2, "mean": None, "values": 3 * [None]}), {}, "running").n == 3


@pytest.mark.parametrize(
    "epochs", [(), ({"epoch": 1, "mean": 0.5},), ({"epoch": 1, "mean": 0.5, "values": [0.5]},)]
)
def test_records_that_do_not_say_what_each_cell_reached_have_no_interval(epochs: Any) -> None:
    shown = trial_shown(record(*epochs), {}, "running")
    assert (shown.low, shown.high, shown.n) == (None, None, 0)
