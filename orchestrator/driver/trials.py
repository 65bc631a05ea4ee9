"""The trials of a study while it runs: which comes next, what is recorded of each, who is told. No Ray in it.

Three threads call it: Tune's loop takes trials and says how they ended, the ``Launcher`` proposes them and
queues their work, the reader of the pool's events passes on what workers tell. None waits for another's
storage or sampler. What a trial came to is decided by the work alone, here, in ``take``; the searcher only
learns from it.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from mmap_model.cells import Point
from mmap_model.plain import content_key, to_plain
from orchestrator.driver import spreading
from orchestrator.ledger import Invocation, Ledger, StudyStore, TrialRecord, WriteBehind
from orchestrator.ledger.documents import now
from orchestrator.study import StudyPlan
from orchestrator.tracking.tracker import NoTracker, Tracker
from orchestrator.work.item import Event, WorkItem

if TYPE_CHECKING:
    from orchestrator.search.proposals import Proposal, Proposals

logger = logging.getLogger(__name__)

WAIT_S = 0.5
"""Seconds that Tune's loop waits at most for a trial while none is live."""

BEHIND = 4
"""Trials per slot that Tune may not have followed to their end yet, where trials are launched ahead."""

Progress = Callable[[Event], None]
"""Takes the events that ``orchestrator.terminal`` shows."""


class Queue(Protocol):
    """The pool, as far as trials use it."""

    def submit(self, item: WorkItem, needs: Sequence[str] = (), parts: Sequence[WorkItem] = ()) -> None: ...
    def cancel(self, item_id: str) -> None: ...
    def forget(self, item_id: str) -> None: ...


class Trials:
    """Trials in order, their records, and the news of them.

    Args:
        plan: the study.
        proposals: where new configurations come from.
        queue: the pool.
        store: takes the records.
        tracker: of the study.
        progress: shows events to the user.
        invocation: of this driver; ``fence`` and ``id`` go with everything written.
        slots: trials that may be in work at the same time.
        retry_failed: train failed cells again.
        on_end: told of every trial that ended, with its record as written.
        behind: writes the records of trials in work; without it every change is written at once.
        spent: names the budget that is spent, apart from the number of trials; None while there is none.
    """

    def __init__(
        self,
        plan: StudyPlan,
        proposals: Proposals,
        queue: Queue,
        store: StudyStore,
        tracker: Tracker | NoTracker,
        progress: Progress,
        invocation: Invocation,
        *,
        slots: Callable[[], int],
        retry_failed: bool = False,
        on_end: Callable[[TrialRecord], None] = lambda record: None,
        behind: WriteBehind | None = None,
        spent: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._on_end, self._budget_spent = on_end, spent
        self._behind = behind
        self._plan, self._proposals, self._store, self._queue = plan, proposals, store, queue
        self._tracker, self._progress, self._invocation = tracker, progress, invocation
        self._slots = slots
        self._retry_failed = retry_failed
        self._lock = threading.RLock()
        self._launching = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._ahead: Callable[[], int] | None = None
        self._in_hand = False
        self._starting: int | None = None
        self.fault: Exception | None = None
        self._untold: deque[tuple[int, str, dict[int, float]]] = deque()
        self._unfollowed = 0
        self._counted: set[str] = set()
        self._again: deque[TrialRecord] = deque()
        self._mended: dict[int, dict[int, float]] = {}
        self._next = 0
        self._launched: deque[dict[str, Any]] = deque()
        self._live: dict[str, TrialRecord] = {}
        self._parts: dict[str, int] = {}
        self._stopped_by: dict[str, str] = {}
        self._unsaved: dict[int, TrialRecord] = {}
        self._killed: dict[int, tuple[TrialRecord, str, str]] = {}
        self._half_over: set[str] = set()
        self._exhausted = False
        self._stopping = False
        self.failed: list[int] = []
        self.lost: list[int] = []

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
            if record is None:
                self._recall_lost(number)
                continue
            if record.number in again:
                if record.state == "failed":
                    record.epochs = []
                elif record.state == "complete":
                    self._mended[record.number] = epochs_of(record)
                record.state = "running"
                self._again.append(record)
            self._proposals.replay(
                record.number,
                record.state,
                record.params,
                record.distributions,
                record.point,
                epochs_of(record),
            )
            self._next = max(self._next, record.number + 1)

    def _recall_lost(self, number: int) -> None:
        self._next = max(self._next, number + 1)
        proposal = self._proposals.propose(number)
        if proposal is None:
            text = f"Trial {number} cannot be proposed again: the space holds no further configuration."
            self._progress({"kind": "note", "text": text})
            return
        self._again.append(_record_of(proposal))

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
            running = f", {len(self._live)} in work will finish" if self._live else ""
            text = f"The budget is spent ({budget}): no new trial starts{running}."
            self._progress({"kind": "note", "text": text})
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
        ahead = self._ahead()
        limit = self._slots() + ahead
        # With many slots none waits for Tune's actors, whose start takes longer than a short trial.
        behind = bool(ahead) and len(self._live) < limit and self._unfollowed < BEHIND * limit
        return (self._unfollowed < limit or behind) and bool(self._again or not self._spent)

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

    def ended(self, number: int, state: str, epochs: dict[int, float]) -> None:
        """The thin trial ended. The searcher learns from it unless the next invocation goes on with it."""
        with self._changed:
            self._unfollowed -= 1
            self._changed.notify_all()
            if state == "pruned" and number in self._mended:
                state, epochs = "complete", self._mended[number]
            if not self._stopping and state not in ("lost", "stopped"):
                self._untold.append((number, state, epochs))
            self._release(trial_item(number))

    # Stopping

    def stop_early(self, item_id: str, reason: str = "pruned") -> None:
        """Cancel a trial's work: ``pruned`` by the scheduler, or ``cancelled`` by the user.

        A trial that was complete and lost a cell is not pruned: others that came since do not take back what
        it had reached.
        """
        with self._lock:
            if self._stopping or item_id not in self._live:
                return
            if reason == "pruned" and self._live[item_id].number in self._mended:
                return
            self._stopped_by.setdefault(item_id, reason)
        self._queue.cancel(item_id)

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

    def close(self) -> None:
        """Record and tell that what still runs was interrupted."""
        with self._lock:
            for record in self._live.values():
                self._unsaved[record.number] = record
                self._tracker.trial_ended(
                    record.number,
                    "interrupted",
                    attempts=record.attempts,
                    device_seconds=record.device_seconds,
                )
            self._live.clear()
            self.flush()

    # What the workers tell

    def take(self, event: Event) -> None:
        """Take one event of an item in; events of items that are no trials are ignored."""
        with self._lock:
            item_id = event.get("item_id", "")
            record = self._live.get(item_id)
            if record is None:
                return
            handler = {
                "cells": self._on_cells,
                "epoch": self._on_epoch,
                "cell_finished": self._on_cell_finished,
                "cell_failed": self._on_cell_failed,
                "stopped": self._on_seconds,
                "requeued": self._on_seconds,
                "done": self._on_done,
            }.get(event["kind"])
            if handler is not None:
                handler(record, event)
            if event["kind"] not in ("done", "leased"):
                self._tracker.event(record.number, event)

    def flush(self) -> None:
        """Write the records that changed, and failures that nobody else records.

        Called after every batch of events; what fails is tried again.
        """
        with self._lock:
            for number, record in list(self._unsaved.items()):
                try:
                    self._store.save_trial(record, self._behind)
                except OSError as error:
                    logger.error("The record of trial %d could not be written yet: %s", number, error)
                else:
                    del self._unsaved[number]
            for number, killed in list(self._killed.items()):
                try:
                    self._record_failures(*killed)
                except OSError as error:
                    logger.error("Failures of trial %d could not be written yet: %s", number, error)
                else:
                    del self._killed[number]

    def _launch(self) -> dict[str, Any] | None:
        """Propose, record and queue a trial; what its thin trial needs to follow it, None if none is left."""
        with self._launching:
            record = self._next_record()
            if record is None:
                return None
            record.attempts += 1
            record.started_at = record.started_at or now()
            record.fence, record.invocation = self._invocation.fence, self._invocation.id
            point = Point.from_dict(record.point)
            item = self._plan.work_item(
                point,
                item_id=trial_item(record.number),
                trial=record.number,
                fence=self._invocation.fence,
                invocation=self._invocation.id,
                retry_failed=self._retry_failed,
            )
            with self._lock:
                parts = item.parts(self._divide(record))
                record.attributes["parts"] = self._parts[item.item_id] = len(parts)
            self._write(record)
            with self._lock:
                self._unfollowed += 1
                self._live[item.item_id], self._starting = record, None
                self._tracker.trial_started(record.number, record.point, started_at=record.started_at)
                self._show(record)
            needs = []
            if (probe := probe_item(item, point)) is not None:
                needs = [probe.item_id]
                self._queue.submit(probe)
            self._queue.submit(item, needs, parts if len(parts) > 1 else ())
            return {"number": record.number, "item": item.item_id, "epochs": point.recipe.epochs}

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
            text = f"The space holds no more than {self._next} different configurations."
            self._progress({"kind": "note", "text": text})
            return None
        self._next += 1
        return _record_of(proposal)

    def _write(self, record: TrialRecord) -> None:
        """Before its work is queued, so that a driver that is killed takes up the same trial again."""
        try:
            self._store.save_trial(record)
            if record.attempts == 1:
                self._store.save_proposal(record, self._behind)
        except OSError as error:
            logger.error("The record of trial %d could not be written yet: %s", record.number, error)
            with self._lock:
                self._unsaved[record.number] = record

    def _divide(self, record: TrialRecord) -> int:
        """Among how many slots the cells of a trial are spread.

        A trial that has begun goes on as it was: its states are of those batches.
        """
        if record.epochs:
            return int(record.attributes.get("parts", 1))
        return spreading.parts(
            slots=self._slots(),
            coming=1 + len(self._again) + (0 if self._spent else self._plan.trials - self._next),
            in_work=sum(self._parts.values()),
            cells=self._plan.cells_per_trial,
        )

    def _on_cells(self, record: TrialRecord, event: Event) -> None:
        names = ("key", "split", "seed", "partition", "parameters")
        record.cells = [{name: cell[name] for name in names} for cell in event["cells"]]
        record.parameters = max((cell["parameters"] for cell in record.cells), default=None)
        if record.parameters is not None:
            record.share = record.parameters / self._plan.backbone_parameters
        finished = [cell["key"] for cell in event["cells"] if cell["status"] == "finished"]
        self._invocation.reused += [key for key in finished if key not in self._counted]
        self._counted.update(finished)
        self._unsaved[record.number] = record
        self._show(record)
        for cell in event["cells"]:
            told = {"kind": "cell", "trial": record.number, "key": cell["key"], "state": cell["status"]}
            self._progress(told)

    def _on_epoch(self, record: TrialRecord, event: Event) -> None:
        if record.epochs and event["epoch"] <= record.epochs[-1]["epoch"]:
            return  # told again after a resume
        record.epochs.append({name: event[name] for name in ("epoch", "mean", "values")})
        self._unsaved[record.number] = record
        told = {"kind": "epoch", "trial": record.number, "epoch": event["epoch"], "mean": event["mean"]}
        self._progress(told)

    def _on_cell_finished(self, record: TrialRecord, event: Event) -> None:
        self._invocation.trained.append(event["key"])
        self._counted.add(event["key"])
        self._progress({"kind": "cell", "trial": record.number, "key": event["key"], "state": "finished"})

    def _on_cell_failed(self, record: TrialRecord, event: Event) -> None:
        self._progress(
            {
                "kind": "cell",
                "trial": record.number,
                "key": event["key"],
                "state": "failed",
                "error": event["error"],
                "failure": event.get("failure"),
            }
        )

    def _on_seconds(self, record: TrialRecord, event: Event) -> None:
        """Work that was interrupted has taken time too."""
        record.device_seconds += event["seconds"].get("total", 0.0)
        self._unsaved[record.number] = record

    def _on_done(self, record: TrialRecord, event: Event) -> None:
        item_id = event["item_id"]
        state, error = event["state"], event["error"]
        record.device_seconds += event["seconds"].get("total", 0.0)
        record.ended_at = now()
        shown = state
        if state == "complete":
            record.state, record.value = "complete", record.epochs[-1]["mean"] if record.epochs else None
            if self._plan.study.protocol == "search" and not _is_number(record.value):
                record.state = shown = "failed"
                error = "its objective is not a number"
                self.failed.append(record.number)
        elif state == "cancelled" and item_id in self._stopped_by:
            record.state, shown = "pruned", self._stopped_by[item_id]
            record.attributes["stopped_by"] = {"pruned": "scheduler", "cancelled": "user"}[shown]
        elif state == "failed":
            record.state = "failed"
            self.failed.append(record.number)
            if event.get("killed"):
                self._killed[record.number] = record, event["failure"], error
        else:  # lost, or taken from us: it stays to be taken up again
            self.lost.append(record.number)
        record.error = error
        if record.state == "failed":
            record.attributes["failure"] = "nan" if state == "complete" else event.get("failure") or "raised"
        del self._live[item_id], self._parts[item_id]
        self._stopped_by.pop(item_id, None)
        self._unsaved[record.number] = record
        self.flush()
        self._tracker.trial_ended(
            record.number,
            "interrupted" if record.state == "running" else shown,
            ended_at=record.ended_at,
            attempts=record.attempts,
            device_seconds=record.device_seconds,
            parameters=record.parameters,
            share=record.share,
            error=error,
        )
        self._show(record, shown if record.state != "running" else "failed")
        self._release(item_id)
        self._on_end(record)

    def _record_failures(self, record: TrialRecord, kind: str, error: str) -> None:
        """Of cells whose workers were killed with them; the others have recorded what became of theirs."""
        ledger = Ledger(self._store.storage)
        about: dict[str, Any] = {
            "study": self._plan.study.name,
            "trial": record.number,
            "invocation": self._invocation.id,
            "fence": self._invocation.fence,
            "by": "driver",
        }
        for key in record.keys:
            if ledger.get(key) is None and ledger.failure(key) is None:
                ledger.record_failure(key, error, kind=kind, **about)

    def _release(self, item_id: str) -> None:
        """Let the pool forget an item once both its work and its thin trial are over."""
        if item_id in self._half_over:
            self._half_over.remove(item_id)
            self._queue.forget(item_id)
        else:
            self._half_over.add(item_id)

    def _show(self, record: TrialRecord, state: str | None = None) -> None:
        event: Event = {
            "kind": "trial",
            "number": record.number,
            "state": state or record.state,
            "values": self._plan.space.values(record.params),
            "parameters": record.parameters,
            "error": record.error,
        }
        if record.epochs:
            event["mean"] = record.epochs[-1]["mean"]
        self._progress(event)


def _record_of(proposal: Proposal) -> TrialRecord:
    return TrialRecord(
        number=proposal.number,
        params=proposal.params,
        distributions=proposal.distributions,
        point=proposal.point.to_dict(),
    )


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def trial_item(number: int) -> str:
    """Id of the work item of a trial."""
    return f"trial-{number}"


def probe_item(item: WorkItem, point: Point) -> WorkItem | None:
    """The work that must be done before ``item``: the probe of its grouping; None if it needs none.

    Equal probes of equal cells have equal ids, so that the pool does them once.
    """
    grouping = point.grouping
    if grouping is None or grouping.mode != "gradient":
        return None
    shape = {"method": point.method, "settings": to_plain(point.settings), "recipe": to_plain(point.recipe)}
    probe = to_plain(grouping.probe)
    cells = {"splits": item.splits, "seeds": item.seeds}
    identity = {"probe": probe, "of": shape if grouping.probe.same else None, **cells}
    return item.with_(item_id=f"probe-{content_key(identity)}", purpose="probe", trial=None)


def epochs_of(record: TrialRecord) -> dict[int, float]:
    """The objective of a recorded trial by epoch; an objective that was not a number is left out as NaN."""
    return {e["epoch"]: math.nan if e["mean"] is None else e["mean"] for e in record.epochs}
