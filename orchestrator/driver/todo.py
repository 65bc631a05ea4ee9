"""What the records of a study leave to be done. Reads only; imports neither Ray nor Optuna."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mmap_model.cells import Point
from orchestrator.driver.taken import WarmStart
from orchestrator.driver.unchanged import require_same_cells, require_same_rules
from orchestrator.ledger import Ledger, StudyStore, TrialRecord
from orchestrator.rows.reference import missing_references
from orchestrator.rows.scoring import Named, finalists, unscored
from orchestrator.statistics.spending import Budgets, spent_before
from orchestrator.study import StudyPlan


@dataclass(frozen=True, kw_only=True)
class Todo:
    """The work of an invocation.

    Attributes:
        search: run trials; False if only ``confirm`` is wanted.
        records: of all trials, by number; of one whose record is damaged as it was proposed.
        lost: numbers of trials of which nothing can be read: they are proposed again.
        damaged: numbers of trials whose records cannot be read or are gone.
        again: numbers of recorded trials that run again: interrupted or lost, complete ones that lost a cell
            since, and failed ones if wanted.
        new: trials that the budgets have left.
        baselines: missing reference rows, as far as known; the best trial's is found anew after a search.
        confirm: rows to score on the test images, as far as known; after a search they are found anew.
        reason: recorded with looks at the test images.
        retry_failed: train failed cells again.
        retrain: train cells again that are to be scored and have no weights any more.
        warm_start: what the study takes from others.
    """

    search: bool
    records: tuple[TrialRecord, ...] = ()
    again: frozenset[int] = frozenset()
    lost: tuple[int, ...] = ()
    damaged: tuple[int, ...] = ()
    new: int = 0
    baselines: Mapping[str, Point] = field(default_factory=dict)
    confirm: tuple[Named, ...] = ()
    reason: str = ""
    retry_failed: bool = False
    retrain: bool = False
    warm_start: WarmStart = field(default_factory=WarmStart)

    @property
    def anything(self) -> bool:
        return bool(self.again or self.lost or self.new or self.baselines or self.confirm)

    @property
    def trials(self) -> int:
        return len(self.records) + len(self.lost) + self.new

    @property
    def done(self) -> int:
        return sum(record.state != "running" and record.number not in self.again for record in self.records)

    @property
    def best(self) -> TrialRecord | None:
        kept = (record for record in self.records if record.number not in self.again)
        return next(iter(finalists(kept, 1)), None)

    @property
    def scoring(self) -> list[str]:
        return [key for _, record in self.confirm for key in record.keys]


def find_todo(plan: StudyPlan, store: StudyStore, ledger: Ledger, *, reason: str, retry_failed: bool) -> Todo:
    """Compare the plan with the records; every cell of a complete trial must still be readable.

    Raises:
        StudyError: finished cells were trained on other data or weights, or there is work left and another
            version trained them by other rules.
    """
    records = store.load_trials()
    unreadable = [number for number in store.unreadable if number < plan.trials]  # others are of no trial
    begun = 1 + max([*(r.number for r in records), *unreadable], default=-1)
    damaged = sorted(set(range(begun)) - {r.number for r in records})
    records = sorted([*records, *store.rebuild_trials(damaged)], key=lambda r: r.number)
    lost = set(damaged) - {r.number for r in records}
    search = plan.study.search
    limits = Budgets.of(search)
    spent = limits.reached(spent_before(store)) if limits != Budgets() else None
    complete = [record for record in records if record.state == "complete"]
    rows = [(f"trial {record.number}", record.keys) for record in complete]
    rows += [
        (f"reference row {name}", [cell["key"] for cell in row["cells"]])
        for name, row in store.load_baselines().items()
    ]
    readable = ledger.get_many(key for _, keys in rows for key in keys)
    require_same_cells(plan, store.name, rows, readable)
    wanted = {"running", "failed"} if retry_failed else {"running"}
    again = {r.number for r in records if r.state in wanted}
    again |= {r.number for r in complete if any(key not in readable for key in r.keys)}
    todo = Todo(
        search=True,
        records=tuple(records),
        again=frozenset(again),
        lost=tuple(sorted(lost)),
        damaged=tuple(damaged),
        new=0 if spent else max(0, plan.trials - begun),
        baselines=missing_references(plan, store, ledger, records),
        confirm=tuple(unscored(plan, store, ledger, records)),
        reason=reason,
        retry_failed=retry_failed,
        retrain=True,  # another study may have dropped what became a finalist here meanwhile
    )
    if todo.anything:
        require_same_rules(plan, store.name, rows, readable)
    return todo
