"""Rows of a ranking: trials by their number, reference rows by their name."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.ledger import TrialRecord
from orchestrator.tracking.row import ZERO_STEP as ZERO_STEP
from orchestrator.tracking.row import row_name

ZERO_SHOT = "zero_shot"

Row = tuple[int | str, TrialRecord]
"""A trial's number or a reference row's name, and its record."""


def finalists(trials: Iterable[TrialRecord], count: int) -> list[TrialRecord]:
    """The best complete trials by validation: highest mean, then fewest parameters, then the earliest."""
    complete = [trial for trial in trials if trial.state == "complete"]
    complete.sort(key=lambda t: (t.value is None, -(t.value or 0.0), t.parameters or 0, t.number))
    return complete[:count]


def tracked_as(name: int | str, record: TrialRecord) -> int | str:
    """A row's name in tracking."""
    return row_name(name, record.point)
