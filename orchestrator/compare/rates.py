"""Which learning rates are tried for a column: the same for all, or around its own, and on."""

from __future__ import annotations

from collections.abc import Mapping

from mmap_model.configuration import Split
from orchestrator.compare.plan import ComparePlan, PlannedRow
from orchestrator.compare.spacing import beyond
from orchestrator.ledger import TrialRecord

KnownTrials = Mapping[str, TrialRecord]
"""Recorded rows by key."""


def tried_rows(plan: ComparePlan, known: KnownTrials, column: str, split: Split) -> list[PlannedRow]:
    """The rows of the rates that are tried for a column, ascending, as far as the records decide.

    Around a column's own rate one more is tried beyond an end while the best lies there, to ``around.most``.
    A rate that failed lies outside: none is tried beyond it.
    """
    rows = list(plan.tried(column, split, plan.first_rates(column)))
    around = plan.around
    while around is not None and rows and len(rows) < around.most and _all_ended(rows, known):
        best = _best(rows, known)
        further = None if best is None else beyond(around, [_rate(row) for row in rows], best)
        if further is None:
            break
        rows = sorted([*rows, *plan.tried(column, split, (further,))], key=_rate)
    return rows


def best_rate(plan: ComparePlan, known: KnownTrials, column: str, split: Split) -> float | None:
    """The rate with the highest validation mean, the lowest of equals; None if none has one."""
    return _best(tried_rows(plan, known, column, split), known)


def is_settled(plan: ComparePlan, known: KnownTrials, column: str, split: Split) -> bool:
    """Whether every rate that is tried for a column was tried to the end."""
    return _all_ended(tried_rows(plan, known, column, split), known)


def _best(rows: list[PlannedRow], known: KnownTrials) -> float | None:
    found = [
        (record.accuracy, -_rate(row))
        for row in rows
        if (record := known.get(row.key)) is not None
        and record.state == "complete"
        and record.accuracy is not None
    ]
    return -max(found)[1] if found else None


def _all_ended(rows: list[PlannedRow], known: KnownTrials) -> bool:
    return all(row.key in known for row in rows)


def _rate(row: PlannedRow) -> float:
    assert row.lr is not None, "a tried row has a rate"
    return row.lr
