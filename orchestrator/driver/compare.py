"""Running a comparison: what its records leave to be done, and who does it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmap_model.configuration import Split
from orchestrator.compare.plan import ComparePlan, Row
from orchestrator.driver.column_rows import unfinished
from orchestrator.driver.run import Options, Outcome, drive
from orchestrator.driver.trials import Progress
from orchestrator.driver.unchanged import require_same_cells, require_same_inputs, require_same_rules
from orchestrator.driver.weights import keeps_weights
from orchestrator.ledger import Ledger, StudyStore, TrialRecord

if TYPE_CHECKING:
    from orchestrator.driver.session import Session, Surroundings

REASON = "compare: every column's cells, once trained"


@dataclass(frozen=True, kw_only=True)
class CompareTodo:
    """The work of an invocation.

    Attributes:
        plan: the comparison.
        rows: to train; rows of chosen rates are found anew once all rates were tried.
        unscored: rows to score on the test images, as far as known.
        finished: rows that need no training.
        retry_failed: train failed cells again.
    """

    plan: ComparePlan
    rows: tuple[Row, ...]
    unscored: tuple[tuple[Row, TrialRecord], ...]
    finished: int
    retry_failed: bool

    @property
    def anything(self) -> bool:
        return bool(self.rows or self.unscored)

    @property
    def trials(self) -> int:
        return len(self.rows)

    @property
    def done(self) -> int:
        return self.finished

    @property
    def scoring(self) -> list[str]:
        return [key for _, record in self.unscored for key in record.keys]

    def session(self, around: Surroundings) -> Session:
        from orchestrator.driver.compare_session import CompareSession

        return CompareSession(around, self)


def run_comparison(
    plan: ComparePlan,
    progress: Progress = lambda event: None,
    *,
    retry_failed: bool = False,
    options: Options | None = None,
) -> Outcome:
    """Train the missing cells of a comparison and score them on the test images, from where its records are.

    Args:
        plan: the comparison, checked.
        progress: shown to the user, see ``orchestrator.terminal``.
        retry_failed: train failed cells again; lost ones always are.
        options: how it is run.

    Raises:
        InputError: it was begun with other data or weights, or another driver runs it.
    """
    study = plan.base.study
    store = StudyStore(study.storage, study.name)
    require_same_inputs(plan.base, store)

    def todo(ledger: Ledger) -> CompareTodo:
        require_same_inputs(plan.base, store)  # another driver may have run it before this one got the lease
        todo = find_work(plan, store, ledger, retry_failed=retry_failed)
        store.save_study(study.to_plain(), plan.base.inputs.to_dict())
        store.adopt(())
        return todo

    return drive(plan.base, store, todo, progress, options or Options())


def find_work(
    plan: ComparePlan, store: StudyStore, ledger: Ledger, *, retry_failed: bool = False
) -> CompareTodo:
    """Compare the plan with the records; every cell of a finished row must still be readable.

    Raises:
        StudyError: cells were trained on other data or weights, or there is work left and another version
            trained them by other rules.
    """
    known = store.load_rows()
    if retry_failed:
        known = {key: record for key, record in known.items() if record.state != "failed"}
    readable = ledger.get_many([key for record in known.values() for key in record.keys])
    named = [(_named(record), record.keys) for record in known.values() if record.state == "complete"]
    require_same_cells(plan.base, store.name, named, readable)
    first = plan.first_rows()
    missing = unfinished(first, known, readable)
    later = [] if missing else unfinished(chosen_rows(plan, known), known, readable)
    rows = missing or later
    todo = CompareTodo(
        plan=plan,
        rows=tuple(rows),
        unscored=tuple(() if rows else unscored_rows(plan, known, ledger)),
        finished=len(first) - len(missing),
        retry_failed=retry_failed,
    )
    if todo.anything:
        require_same_rules(plan.base, store.name, named, readable)
    return todo


def _named(record: TrialRecord) -> str:
    about = record.attributes
    return f"column {about.get('column')} at {about.get('split')}"


def best_rate(plan: ComparePlan, known: Mapping[str, TrialRecord], column: str, split: Split) -> float | None:
    """The rate with the highest validation mean, the lowest of equals; None if none has one."""
    found = [
        (record.value, -row.lr)
        for row in plan.tried(column, split)
        if row.lr is not None
        and (record := known.get(row.key)) is not None
        and record.state == "complete"
        and record.value is not None
    ]
    return -max(found)[1] if found else None


def chosen_rows(plan: ComparePlan, known: Mapping[str, TrialRecord]) -> list[Row]:
    """The rows of the chosen rates, on all seeds."""
    rows = []
    for split in plan.base.study.splits:
        for column in plan.columns:
            rate = best_rate(plan, known, column.name, split)
            if rate is not None:
                rows.append(plan.chosen(column.name, split, rate))
    return rows


def final_rows(plan: ComparePlan, known: Mapping[str, TrialRecord]) -> list[Row]:
    """Rows that the tables show, each once: the shared recipe and the chosen rates."""
    rows = [*plan.shared(), *chosen_rows(plan, known)]
    return list({row.key: row for row in rows}.values())


def needless_weights(plan: ComparePlan, known: Mapping[str, TrialRecord], ledger: Ledger) -> set[str]:
    """Finished cells of whole backbones whose weights nobody waits for: scored, or of a rate that lost."""
    heavy = {
        key
        for record in known.values()
        if record.state == "complete" and not keeps_weights(record)
        for key in record.keys
    }
    if not heavy:
        return set()
    shown = {row.key for row in final_rows(plan, known)}
    for split in plan.base.study.splits:
        for column in plan.columns:
            best = best_rate(plan, known, column.name, split)
            rates = {best, plan.points[column.name].recipe.lr}  # the shared recipe's cells may be among them
            shown |= {row.key for row in plan.tried(column.name, split) if row.lr in rates}
    waiting = heavy.intersection(key for name in shown if name in known for key in known[name].keys)
    return heavy - (waiting - ledger.tests(waiting).keys())


def unscored_rows(
    plan: ComparePlan, known: Mapping[str, TrialRecord], ledger: Ledger
) -> Iterable[tuple[Row, TrialRecord]]:
    """Complete rows of which a cell has not been scored on the test images."""
    complete = [
        (row, known[row.key])
        for row in final_rows(plan, known)
        if row.key in known and known[row.key].state == "complete"
    ]
    scored = ledger.tests(key for _, record in complete for key in record.keys)
    return [pair for pair in complete if any(key not in scored for key in pair[1].keys)]
