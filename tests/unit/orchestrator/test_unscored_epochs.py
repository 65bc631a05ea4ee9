"""Epochs after which no validation images were scored are no results, and no failures either."""

from __future__ import annotations

import math
from typing import Any

import pytest

from orchestrator.ledger import TrialRecord
from orchestrator.rows.row import epochs_of
from orchestrator.statistics.epochs import latest_scored


def epoch(number: int, mean: float | None, *values: float | None) -> dict[str, Any]:
    return {"epoch": number, "mean": mean, "values": list(values)}


def record(*epochs: dict[str, Any], state: str = "complete") -> TrialRecord:
    return TrialRecord(number=0, state=state, params={}, distributions={}, point={}, epochs=list(epochs))


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [
        ([epoch(1, None, None, None), epoch(2, 0.5, 0.4, 0.6)], {2: 0.5}),
        ([epoch(1, None, 0.4, None), epoch(2, 0.5, 0.4, 0.6)], {2: 0.5}),  # one of its cells was there before
        ([epoch(1, None, None)], {}),
        ([{"epoch": 1, "mean": None}], {1: math.nan}),
    ],
)
def test_they_are_left_out_of_what_a_trial_reached(
    epochs: list[dict[str, Any]], expected: dict[int, float]
) -> None:
    assert epochs_of(record(*epochs)) == pytest.approx(expected, nan_ok=True)


def test_what_is_shown_is_the_latest_that_was_scored() -> None:
    scored = epoch(2, 0.5, 0.5)
    assert latest_scored([epoch(1, None, None), scored, epoch(3, None, None)]) == scored
    assert latest_scored([epoch(1, None, None)]) is None
