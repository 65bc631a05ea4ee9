"""What the records of a comparison leave to be done: rows to train, in turns, then rows to score."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from mmap_model.configuration import Split
from mmap_model.methods.registry import get_method
from orchestrator.compare.plan import ComparePlan, PlannedRow, in_order
from orchestrator.compare.rates import KnownTrials, best_rate, is_settled, tried_rows
from orchestrator.ledger import Ledger, StudyStore, TrialRecord


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
    rows = missing or _unfinished(further_rows(plan, known), known, readable)
    named = [(_named(record), record.keys) for record in known.values() if record.state == "complete"]
    return CompareTodo(
        rows=tuple(rows),
        unscored=() if rows else tuple(_unscored(plan, known, ledger)),
        done=len(first) - len(missing),
        known=tuple(named),
        readable=readable,
    )


def further_rows(plan: ComparePlan, known: KnownTrials) -> list[PlannedRow]:
    """What the first rates decide: rates beyond an end, and chosen ones on all seeds of settled columns."""
    rows = [row for name, split in _tuned(plan) for row in tried_rows(plan, known, name, split)]
    return in_order([*rows, *chosen_rows(plan, known)])


def chosen_rows(plan: ComparePlan, known: KnownTrials) -> Iterator[PlannedRow]:
    """The rows of the chosen rates, on all seeds, of the columns whose rates were all tried."""
    for name, split in _tuned(plan):
        rate = best_rate(plan, known, name, split)
        if rate is not None and is_settled(plan, known, name, split):
            yield plan.chosen(name, split, rate)


def _tuned(plan: ComparePlan) -> Iterator[tuple[str, Split]]:
    """Columns and splits of which rates are tried."""
    for split in plan.base.study.splits:
        for column in plan.columns:
            if plan.first_rates(column.name):
                yield column.name, split


def needless_weights(plan: ComparePlan, known: KnownTrials, ledger: Ledger) -> set[str]:
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
    for name, split in _tuned(plan):
        rates = {best_rate(plan, known, name, split)}
        if plan.around is None:
            rates.add(plan.points[name].recipe.lr)  # the shared recipe's cells may be among them
        shown |= {row.key for row in tried_rows(plan, known, name, split) if row.lr in rates}
    waiting = heavy.intersection(key for name in shown if name in known for key in known[name].keys)
    return heavy - (waiting - ledger.tests(waiting).keys())


def _final(plan: ComparePlan, known: KnownTrials) -> Iterable[PlannedRow]:
    """Rows that the tables show, each once: recipes without a search, and the chosen rates."""
    return {row.key: row for row in (*plan.fixed(), *chosen_rows(plan, known))}.values()


def _unscored(
    plan: ComparePlan, known: KnownTrials, ledger: Ledger
) -> Iterator[tuple[PlannedRow, TrialRecord]]:
    """Complete rows of which a cell has not been scored on the test images."""
    complete = [
        (row, known[row.key])
        for row in _final(plan, known)
        if row.key in known and known[row.key].state == "complete"
    ]
    scored = ledger.tests(key for _, record in complete for key in record.keys)
    yield from (pair for pair in complete if any(key not in scored for key in pair[1].keys))


def _unfinished(
    rows: Iterable[PlannedRow], known: KnownTrials, readable: Mapping[str, object]
) -> list[PlannedRow]:
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
