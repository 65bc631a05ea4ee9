"""The end of a study: the best by validation are scored on the test images, once."""

from __future__ import annotations

from collections.abc import Iterable

from mmap_model.cells import Point
from orchestrator.driver.rows import ZERO_STEP, Row, finalists, tracked_as
from orchestrator.ledger import Invocation, Ledger, StudyStore, TrialRecord
from orchestrator.ledger.told import ToldStore
from orchestrator.study import StudyPlan
from orchestrator.tracking.tracker import NoTracker, Tracker
from orchestrator.work.item import Event, WorkItem


def unscored(plan: StudyPlan, store: StudyStore, ledger: Ledger, trials: Iterable[TrialRecord]) -> list[Row]:
    """Final rows of which a cell has not been scored on the test images."""
    rows = final_rows(plan, store, trials)
    scored = ledger.tests(key for _, record in rows for key in record.keys)
    return [row for row in rows if any(key not in scored for key in row[1].keys)]


def final_rows(plan: StudyPlan, store: StudyStore, trials: Iterable[TrialRecord]) -> list[Row]:
    """Finalists, and then the reference rows; none as long as no trial is complete."""
    chosen: list[Row] = [(trial.number, trial) for trial in finalists(trials, plan.study.finalists)]
    rows = store.load_baselines() if chosen else {}
    return chosen + [(name, TrialRecord.from_dict({"number": -1, **row})) for name, row in rows.items()]


class Confirmation:
    """Scores rows on the test images, one work item each.

    Args:
        plan: the study.
        rows: what to score.
        ledger: where the scores are read back from.
        tracker: told of them.
        invocation: of this driver.
        reason: recorded with each look at the test images.
        retrain: train cells again whose weights were dropped; those with broken files always are.

    Attributes:
        errors: why rows could not be scored.
    """

    def __init__(
        self,
        plan: StudyPlan,
        rows: Iterable[Row],
        ledger: Ledger,
        tracker: Tracker | NoTracker,
        invocation: Invocation,
        reason: str,
        *,
        retrain: bool = False,
    ) -> None:
        self._plan, self._ledger, self._tracker = plan, ledger, tracker
        self._invocation, self._reason, self._retrain = invocation, reason, retrain
        self._told = ToldStore(ledger.storage, plan.study.name)
        self._rows = {f"confirm-{name}": (name, record) for name, record in rows}
        self.errors: dict[int | str, str] = {}

    def items(self) -> list[WorkItem]:
        return [
            self._plan.work_item(
                Point.from_dict(record.point),
                item_id=item_id,
                purpose="confirm",
                trial=name if isinstance(name, int) else None,
                cells=tuple(record.keys),
                reason=self._reason,
                untrained=name == ZERO_STEP,
                retry_failed=True,
                retrain=self._retrain,
                fence=self._invocation.fence,
                invocation=self._invocation.id,
            )
            for item_id, (name, record) in self._rows.items()
        ]

    @property
    def live(self) -> int:
        """Rows that are not scored yet."""
        return len(self._rows)

    def take(self, event: Event) -> None:
        """Take one event of an item in; those of other items are ignored."""
        item_id = event.get("item_id", "")
        if item_id not in self._rows:
            return
        name, record = self._rows[item_id]
        if event["kind"] == "cell_finished":
            self._invocation.trained.append(event["key"])
        elif event["kind"] == "done":
            try:
                if event["state"] == "complete":
                    self._tell_mean(name, record)
                else:
                    self.errors[name] = event["error"] or event["state"]
            finally:
                del self._rows[item_id]

    def _tell_mean(self, name: int | str, record: TrialRecord) -> None:
        scores = self._ledger.tests(record.keys)
        if missing := [key for key in record.keys if key not in scores]:
            self.errors[name] = (
                f"the score of cell {missing[0][:8]} cannot be read; the same command scores it again"
            )
            return
        tracked = tracked_as(name, record)
        label = f"trial {tracked}" if isinstance(tracked, int) else tracked
        self._told.save_scored(label, record.keys)
        self._tracker.trial_tested(tracked, record.cells, scores)
