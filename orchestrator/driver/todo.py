"""What the records of a study leave to be done. Reads only; imports neither Ray nor Optuna."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.driver.baselines import baseline_names
from orchestrator.driver.confirmation import Row, unscored
from orchestrator.ledger import Ledger, StudyStore, TrialRecord
from orchestrator.study import StudyPlan


@dataclass(frozen=True, kw_only=True)
class Todo:
    """The work of an invocation.

    Attributes:
        search: run trials; False if only ``confirm`` is wanted.
        records: of all trials, by number.
        again: numbers of recorded trials that run again: interrupted or lost, complete ones that lost a cell
            since, and failed ones if wanted.
        new: trials that the budget has left.
        baselines: names of missing reference rows.
        confirm: rows to score on the test images, as far as known; after a search they are found anew.
        reason: recorded with looks at the test images.
        retry_failed: train failed cells again.
    """

    search: bool
    records: tuple[TrialRecord, ...] = ()
    again: frozenset[int] = frozenset()
    new: int = 0
    baselines: tuple[str, ...] = ()
    confirm: tuple[Row, ...] = ()
    reason: str = ""
    retry_failed: bool = False

    @property
    def anything(self) -> bool:
        return bool(self.again or self.new or self.baselines or self.confirm)


def find_todo(plan: StudyPlan, store: StudyStore, ledger: Ledger, *, reason: str, retry_failed: bool) -> Todo:
    """Compare the plan with the records; every cell of a complete trial must still be readable."""
    records = store.load_trials()
    rows = store.load_baselines()
    complete = [record for record in records if record.state == "complete"]
    row_keys = {name: [cell["key"] for cell in row["cells"]] for name, row in rows.items()}
    readable = ledger.get_many(
        [*(k for r in complete for k in r.keys), *(k for keys in row_keys.values() for k in keys)]
    )
    wanted = {"running", "failed"} if retry_failed else {"running"}
    again = {r.number for r in records if r.state in wanted}
    again |= {r.number for r in complete if any(key not in readable for key in r.keys)}
    found = [name for name, keys in row_keys.items() if all(key in readable for key in keys)]
    return Todo(
        search=True,
        records=tuple(records),
        again=frozenset(again),
        new=max(0, plan.trials - len(records)),
        baselines=tuple(name for name in baseline_names(plan) if name not in found),
        confirm=tuple(unscored(plan, store, ledger, records)),
        reason=reason,
        retry_failed=retry_failed,
    )
