"""What the records of a comparison leave to be done: rows to train, in turns, then rows to score."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from mmap_model.configuration import Split
from mmap_model.methods.registry import get_method
from orchestrator.compare.plan import ComparePlan, PlannedRow
from orchestrator.ledger import Ledger, StudyStore, TrialRecord

Known = Mapping[str, TrialRecord]
"""Recorded rows by key."""


@dataclass(frozen=True, kw_only=True)
class CompareTodo:
    """The work of an invocation.

    Attributes:
        rows: to train now; rows of chosen rates are found anew once all rates were tried.
        unscored: rows to score on the test images, as far as known.
        done: rows that need no training.
        known: finished rows by how a person calls them, with the keys of their cells.
        readable: records of cells by key.
    """

    rows: tuple[PlannedRow, ...]
    unscored: tuple[tuple[PlannedRow, TrialRecord], ...]
    done: int
    known: tuple[tuple[str, list[str]], ...]
    readable: Mapping[str, dict[str, object]]

    @property
    def anything(self) -> bool:
        return bool(self.rows or self.unscored)

    @property
    def best(self) -> None:
        """Columns compete with each other only once all are there."""

    @property
    def trials(self) -> int:
        return len(self.rows)

    @property
    def scoring(self) -> list[str]:
        return [key for _, record in self.unscored for key in record.keys]


def find_work(
    plan: ComparePlan, store: StudyStore, ledger: Ledger, *, retry_failed: bool = False
) -> CompareTodo:
    """Compare the plan with the records; every cell of a finished row must still be readable."""
    known = store.load_rows()
    if retry_failed:
        known = {key: record for key, record in known.items() if record.state != "failed"}
    readable = ledger.get_many([key for record in known.values() for key in record.keys])
    first = plan.first_rows()
    missing = _unfinished(first, known, readable)
    rows = missing or _unfinished(chosen_rows(plan, known), known, readable)
    named = [(_named(record), record.keys) for record in known.values() if record.state == "complete"]
    return CompareTodo(
        rows=tuple(rows),
        unscored=() if rows else tuple(_unscored(plan, known, ledger)),
        done=len(first) - len(missing),
        known=tuple(named),
        readable=readable,
    )


def best_rate(plan: ComparePlan, known: Known, column: str, split: Split) -> float | None:
    """The rate with the highest validation mean, the lowest of equals; None if none has one."""
    found = [
        (record.accuracy, -row.lr)
        for row in plan.tried(column, split)
        if row.lr is not None
        and (record := known.get(row.key)) is not None
        and record.state == "complete"
        and record.accuracy is not None
    ]
    return -max(found)[1] if found else None


def chosen_rows(plan: ComparePlan, known: Known) -> Iterator[PlannedRow]:
    """The rows of the chosen rates, on all seeds."""
    for split in plan.base.study.splits:
        for column in plan.columns:
            rate = best_rate(plan, known, column.name, split)
            if rate is not None:
                yield plan.chosen(column.name, split, rate)


def needless_weights(plan: ComparePlan, known: Known, ledger: Ledger) -> set[str]:
    """Finished cells of whole backbones whose weights nobody waits for: scored, or of a rate that lost."""
    heavy = {
        key
        for record in known.values()
        if record.state == "complete" and not get_method(record.point["method"]).keeps_weights
        for key in record.keys
    }
    if not heavy:
        return set()
    shown = {row.key for row in _final(plan, known)}
    for split in plan.base.study.splits:
        for column in plan.columns:
            best = best_rate(plan, known, column.name, split)
            rates = {best, plan.points[column.name].recipe.lr}  # the shared recipe's cells may be among them
            shown |= {row.key for row in plan.tried(column.name, split) if row.lr in rates}
    waiting = heavy.intersection(key for name in shown if name in known for key in known[name].keys)
    return heavy - (waiting - ledger.tests(waiting).keys())


def _final(plan: ComparePlan, known: Known) -> Iterable[PlannedRow]:
    """Rows that the tables show, each once: the shared recipe and the chosen rates."""
    return {row.key: row for row in (*plan.shared(), *chosen_rows(plan, known))}.values()


def _unscored(plan: ComparePlan, known: Known, ledger: Ledger) -> Iterator[tuple[PlannedRow, TrialRecord]]:
    """Complete rows of which a cell has not been scored on the test images."""
    complete = [
        (row, known[row.key])
        for row in _final(plan, known)
        if row.key in known and known[row.key].state == "complete"
    ]
    scored = ledger.tests(key for _, record in complete for key in record.keys)
    yield from (pair for pair in complete if any(key not in scored for key in pair[1].keys))


def _unfinished(rows: Iterable[PlannedRow], known: Known, readable: Mapping[str, object]) -> list[PlannedRow]:
    """Rows without a record, or of which a cell cannot be read any more; failed ones count as finished."""

    def is_finished(row: PlannedRow) -> bool:
        record = known.get(row.key)
        return record is not None and (
            record.state == "failed" or all(key in readable for key in record.keys)
        )

    return [row for row in rows if not is_finished(row)]


def _named(record: TrialRecord) -> str:
    about = record.attributes
    return f"column {about.get('column')} at {about.get('split')}"
