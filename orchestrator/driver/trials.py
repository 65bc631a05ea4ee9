"""The trials of a study while it runs: which comes next, and which stops early. No Ray in it.

Three threads call it: Tune's loop takes trials and says how they ended, the ``Launcher`` proposes them and
queues their work, the reader of the pool's events passes on what workers tell. None waits for another's
storage or sampler. What a trial came to is decided by the work alone (``trial_records.py``); the searcher
only learns from it.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any

from mmap_model.cells import Point
from orchestrator.driver import splitting
from orchestrator.driver.forgetting import Forgetting
from orchestrator.driver.recorded_search import outcome_of, proposal_of, record_of, trial_item
from orchestrator.driver.staging import Staging, stopped
from orchestrator.driver.trial_records import TrialRecords
from orchestrator.ledger import StudyStore, TrialRecord, WriteBehind
from orchestrator.rows.row import End, Row, epochs_of
from orchestrator.rows.rows import Rows
from orchestrator.search.proposals import TrialOutcome
from orchestrator.statistics.stages import STOPPED
from orchestrator.work.item import WorkItem
from orchestrator.work.shown import BudgetShown

if TYPE_CHECKING:
    from orchestrator.search.proposals import Proposals
    from orchestrator.search.stop_rule import Judgement

logger = logging.getLogger(__name__)

WAIT_S = 0.5
"""Seconds that Tune's loop waits at most for a trial while none is live."""

BEHIND = 4
"""Trials per slot that Tune may not have followed to their end yet, where trials are launched ahead."""


class Trials:
    """Trials in order.

    Args:
        rows: of the driver; trials are rows among them.
        proposals: where new configurations come from.
        store: takes the records.
        slots: trials that may be in work at the same time.
        retry_failed: train failed cells again.
        on_end: told of every trial that ended, with its record as written.
        behind: writes the records of trials in work; without it every change is written at once.
        spent: names the budget that is spent, apart from the number of trials; None while there is none.
        staging: stops trials, and trains their seeds in stages; None: Ray Tune stops them.

    Attributes:
        fault: why no further trial could be launched, if so.
    """

    def __init__(
        self,
        rows: Rows,
        proposals: Proposals,
        store: StudyStore,
        *,
        slots: Callable[[], int],
        retry_failed: bool = False,
        on_end: Callable[[TrialRecord], None] = lambda record: None,
        behind: WriteBehind | None = None,
        spent: Callable[[], str | None] = lambda: None,
        staging: Staging | None = None,
    ) -> None:
        self._rows, self._proposals, self._slots = rows, proposals, slots
        self._plan, self._budget_spent, self._retry_failed = rows.plan, spent, retry_failed
        self._staging = staging
        self._records = TrialRecords(
            rows,
            store,
            behind=behind,
            on_end=on_end,
            over=self._work_over,
            reached=self._reached,
            stage_over=self._stage_over,
        )
        # Epochs as Tune had them do not tell several objectives, nor a trial in stages.
        self._told_of_records = staging is not None or not rows.plan.study.search.aim.is_plain
        self._lock = rows.lock
        self._launching = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._ahead: Callable[[], int] | None = None
        self._in_hand = False
        self._starting: int | None = None
        self.fault: Exception | None = None
        self._untold: deque[tuple[int, TrialOutcome]] = deque()
        self._unfollowed = 0
        self._again: deque[TrialRecord] = deque()
        self._mended: dict[int, dict[int, float]] = {}
        self._next = 0
        self._launched: deque[dict[str, Any]] = deque()
        self._live: dict[str, Row] = {}
        self._forgetting = Forgetting(rows.queue)
        self._exhausted = False
        self._stopping = False

    def recall(
        self, records: Iterable[TrialRecord], again: Collection[int], lost: Iterable[int] = ()
    ) -> None:
        """Take the records of earlier invocations in, in order.

        Args:
            records: of trials.
            again: numbers of those that run again.
            lost: numbers of trials without a record: they are proposed again, from what came before them.
        """
        known: dict[int, TrialRecord | None] = {**dict.fromkeys(lost), **{r.number: r for r in records}}
        for number, record in sorted(known.items()):
            self._next = max(self._next, number + 1)
            if record is None:
                if (proposal := self._proposals.propose(number)) is not None:
                    self._again.append(record_of(proposal))
                else:
                    self._rows.note(f"Trial {number} cannot be proposed again: the space holds no more.")
                continue
            if self._staging is not None:
                self._staging.learn(record)
            if number in again:
                if record.state == "failed":
                    record.epochs = []
                elif record.state == "complete":
                    self._mended[number] = epochs_of(record)
                record.state = "running"
                self._again.append(record)
            self._proposals.replay(proposal_of(record), outcome_of(record))

    # What the searcher asks: orchestrator.search.tune_searcher.TrialSource

    @property
    def exhausted(self) -> bool:
        """No further trial will come: the budget is spent, the space is empty, or the driver stops."""
        with self._lock:
            if self._stopping:
                return True
            return not self._launched and not self._in_hand and not self._again and self._spent

    @property
    def _spent(self) -> bool:
        if not self._exhausted and self._next < self._plan.trials and (budget := self._budget_spent()):
            self._exhausted = True
            self._rows.progress(BudgetShown(budget=budget, running=len(self._live)))
            running = f", {len(self._live)} in work will finish" if self._live else ""
            self._rows.note(f"The budget is spent ({budget}): no new trial starts{running}.")
        return self._exhausted or self._next >= self._plan.trials

    def room(self, live: int) -> bool:
        """Whether another trial may run beside ``live`` ones, one per slot, and can be had now."""
        if self.fault is not None:
            raise self.fault
        if live >= self._slots():
            return False
        if self._ahead is None:
            return True
        with self._changed:
            if not self._launched and not live:  # Tune would sleep for a second before it asks again
                self._changed.wait_for(lambda: bool(self._launched) or self.exhausted, WAIT_S)
            return bool(self._launched)

    def launch(self) -> dict[str, Any] | None:
        """Queue the next trial's work; what its thin trial needs to follow it, or None if none is left."""
        with self._lock:
            if self._launched:
                return self._launched.popleft()
        return self._launch()

    def ended(self, number: int, state: str, epochs: dict[int, float]) -> None:
        """The thin trial ended. The searcher learns from it unless the next invocation goes on with it."""
        with self._changed:
            self._unfollowed -= 1
            self._changed.notify_all()
            if state == "pruned" and number in self._mended:
                state, epochs = "complete", self._mended[number]
            if not self._told_of_records and not self._stopping and state not in ("lost", "stopped"):
                self._untold.append((number, TrialOutcome(state=state, epochs=epochs)))
            self._forgetting.half(trial_item(number))

    # Launching

    def launch_ahead(self, count: int) -> None:
        """Queue the work of the first trials now; ``launch`` hands them out later.

        So the first cells train while Tune still starts.
        """
        while self._unfollowed < count and self.launch_one():
            pass

    def launch_in_background(self, ahead: Callable[[], int]) -> None:
        """From here on ``launch_wanted`` launches trials, up to ``ahead()`` more than there are slots."""
        self._ahead = ahead

    def launch_wanted(self, patience: float) -> None:
        """Launch a trial if there are fewer than slots could use; else wait a while until there are."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._wanting, patience):
                return
        try:
            self.launch_one()
        except Exception as error:
            if not self._stopping:
                logger.exception("No further trial could be launched")
                self.fault = error

    @property
    def _wanting(self) -> bool:
        if self._stopping or self._ahead is None or self.fault is not None:
            return False
        ahead, live = self._ahead(), len(self._live)
        limit = self._slots() + ahead
        # A trial's place is free once the sampler can learn from it: from Tune, or from its record.
        busy = max(self._unfollowed, live * self._told_of_records)
        # With many slots none waits for Tune's actors, whose start takes longer than a short trial.
        behind = bool(ahead) and live < limit and self._unfollowed < BEHIND * limit
        return (busy < limit or behind) and bool(self._again or not self._spent)

    def launch_one(self) -> bool:
        """Queue the next trial's work, to be handed out by ``launch``; False if none is left."""
        with self._lock:
            self._in_hand = True
        config = None
        try:
            config = self._launch()
        finally:
            with self._changed:
                self._in_hand = False
                if config is not None:
                    self._launched.append(config)
                self._changed.notify_all()
        return config is not None

    def _launch(self) -> dict[str, Any] | None:
        """Propose, record and queue a trial; what its thin trial needs to follow it, None if none is left."""
        with self._launching:
            record = self._next_record()
            if record is None:
                return None
            record.attempts += 1
            row = self._row(self._rows.taken(record))
            self._records.begin(record)
            with self._lock:
                self._unfollowed += 1
                self._live[row.item.item_id], self._starting = row, None
            self._rows.submit([row])
            epochs = Point.from_dict(record.point).recipe.epochs
            return {"number": record.number, "item": row.item.item_id, "epochs": epochs}

    def _row(self, record: TrialRecord) -> Row:
        seeds = len(self._plan.study.seeds) if self._staging is None else self._staging.begin(record)
        item = self._item(record, seeds)
        with self._lock:
            parts = item.parts(1 if item.more else self._divide(record))
        record.attributes["parts"] = len(parts)
        return Row(
            item=item,
            record=record,
            ends=self._records,
            run=record.number,
            values=self._plan.space.values(record.params),
            parts=parts,
            # While the first trial waits for its probe all others do, or there are none.
            probe_parts=1 if self._live else max(1, self._slots()),
            seeds=self._item(record, len(self._plan.study.seeds)).seeds,
        )

    def _item(self, record: TrialRecord, seeds: int) -> WorkItem:
        """The work of a trial at its first ``seeds`` seeds."""
        return self._rows.item(
            Point.from_dict(record.point),
            item_id=trial_item(record.number),
            trial=record.number,
            retry_failed=self._retry_failed,
            seeds=self._plan.study.seeds[:seeds],
            more=seeds < len(self._plan.study.seeds),
        )

    def _next_record(self) -> TrialRecord | None:
        """Of a trial that runs again, or of a new one; None if there is none."""
        with self._lock:
            if self._stopping:
                return None
            if self._again:
                record = self._again.popleft()
                self._starting = record.number
                record.error = record.ended_at = record.value = None
                record.attributes.pop("failure", None)
                return record
            if self._spent:
                return None
        while self._untold:
            self._proposals.tell(*self._untold.popleft())
        proposal = self._proposals.propose(self._next)
        if proposal is None:
            self._exhausted = True
            self._rows.note(f"The space holds no more than {self._next} different configurations.")
            return None
        self._next += 1
        return record_of(proposal)

    def _divide(self, record: TrialRecord) -> int:
        """Return into how many parts a trial is split, each for a slot of its own.

        A trial that has begun goes on as it was: its states are of those batches.
        """
        if record.epochs:
            return int(record.attributes.get("parts", 1))
        return splitting.parts(
            slots=self._slots(),
            coming=1 + len(self._again) + (0 if self._spent else self._plan.trials - self._next),
            in_work=sum(len(row.parts) for row in self._live.values()),
            cells=self._plan.cells_per_trial,
        )

    # Stopping

    def _reached(self, row: Row) -> None:
        staging = None if STOPPED in row.record.attributes else self._staging
        if staging and (judgement := staging.reached(row.record)) is not None:
            self._stop(row, judgement)

    def _stage_over(self, row: Row) -> None:
        """Go on with a trial whose first seeds are trained, or stop it."""
        if self._staging is None or self._stopping:
            return  # the next invocation decides
        if STOPPED in row.record.attributes:  # its work was over before it could be stopped
            self._rows.queue.cancel(row.item.item_id)
            return
        decided = self._staging.next_stage(row.record)
        if isinstance(decided, int):
            row.item = self._item(row.record, decided)
            self._records.changed(row)
            self._rows.queue.go_on(row.item)
        else:
            self._stop(row, decided)

    def _stop(self, row: Row, judgement: Judgement) -> None:
        if row.record.number not in self._mended:
            stopped(row.record, judgement)
            self.stop_early(row.item.item_id)

    def stop_early(self, item_id: str, reason: End = "pruned") -> None:
        """Cancel a trial's work: ``pruned`` by the scheduler, or ``cancelled`` by the user.

        A trial that was complete and lost a cell is not pruned: others that came since do not take back what
        it had reached.
        """
        with self._lock:
            if self._stopping or item_id not in self._live:
                return
            if reason == "pruned" and self._live[item_id].record.number in self._mended:
                return
            self._records.stopped(item_id, reason)
        self._rows.queue.cancel(item_id)

    def cancel(self, number: int) -> bool:
        """Cancel a trial for the user; False if it does not run."""
        if trial_item(number) not in self._live:
            return False
        self.stop_early(trial_item(number), "cancelled")
        return True

    def is_waiting(self, number: int) -> bool:
        """Whether a trial is to run again and does not yet."""
        with self._lock:
            return number == self._starting or any(record.number == number for record in self._again)

    def stop(self) -> None:
        """The driver stops: from here on nothing counts as pruned, running trials stay to be continued."""
        with self._lock:
            self._stopping = True

    @property
    def live(self) -> int:
        """Trials whose work is not over."""
        return len(self._live)

    @property
    def last_in_work(self) -> int | None:
        """Trials in work once no further one will come; None while others may, or one is being launched."""
        if not self._launching.acquire(blocking=False):
            return None
        try:
            with self._lock:
                return len(self._live) if self.exhausted and not self._stopping else None
        finally:
            self._launching.release()

    def flush(self) -> None:
        """Write what has changed in the records."""
        self._records.flush()

    def close(self) -> None:
        """Record and tell that what still runs was interrupted."""
        self._rows.close()
        self._live.clear()
        self.flush()

    def _work_over(self, row: Row) -> None:
        del self._live[row.item.item_id]
        if self._staging is not None:
            self._staging.ended(row.record)
        if self._told_of_records and not self._stopping and row.record.state != "running":
            self._untold.append((row.record.number, outcome_of(row.record)))
            self._changed.notify_all()
        self._forgetting.half(row.item.item_id)
