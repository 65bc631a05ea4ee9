"""The life of rows: queued, followed by the events of their work, recorded, told. No Ray in it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from mmap_model.cells import Point
from orchestrator.ledger import Invocation, TrialRecord
from orchestrator.ledger.documents import now
from orchestrator.rows.row import End, Row
from orchestrator.rows.showing import trial_shown
from orchestrator.study import StudyPlan
from orchestrator.tracking.tracker import NoTracker, Tracker
from orchestrator.work.events import (
    CellFailure,
    CellFinished,
    CellsKnown,
    Done,
    EpochReached,
    Event,
    ItemEvent,
    Leased,
    StageDone,
)
from orchestrator.work.item import WorkItem
from orchestrator.work.shown import CellFailureShown, EpochShown, NoteShown, Progress, TrialStage


class Queue(Protocol):
    """The pool, as far as rows use it."""

    def submit(self, item: WorkItem, needs: Sequence[str] = (), parts: Sequence[WorkItem] = ()) -> None: ...
    def cancel(self, item_id: str) -> None: ...
    def go_on(self, item: WorkItem) -> None: ...
    def forget(self, item_id: str) -> None: ...


class Rows:
    """The rows in work of one driver.

    Args:
        plan: the study that they belong to.
        queue: the pool.
        tracker: of the study.
        progress: shows the user how they stand.
        invocation: of this driver; ``fence`` and ``id`` go with everything written, what is trained is kept.

    Attributes:
        lock: guards rows and their records; whoever changes one from another thread takes it.
        failed, lost: numbers of rows that failed, or whose workers kept dying.
        unscored: why rows could not be scored on the test images, or reference rows not be measured, by name.
    """

    def __init__(
        self,
        plan: StudyPlan,
        queue: Queue,
        tracker: Tracker | NoTracker,
        progress: Progress,
        invocation: Invocation,
    ) -> None:
        self.plan, self.queue, self.tracker = plan, queue, tracker
        self.progress, self.invocation = progress, invocation
        self.lock = threading.RLock()
        self.failed: list[int] = []
        self.lost: list[int] = []
        self.unscored: dict[str, str] = {}
        self._live: dict[str, Row] = {}
        self._counted: set[str] = set()

    @property
    def live(self) -> int:
        """Rows whose work is not over, with those that follow from the end of another."""
        with self.lock:
            return len(self._live)

    def record(self, point: Point, number: int = -1) -> TrialRecord:
        """A new record of this driver's; number -1 is of no trial."""
        return self.taken(TrialRecord(number=number, point=point.to_dict()))

    def taken(self, record: TrialRecord) -> TrialRecord:
        """A record that this driver begins, or takes up again."""
        record.started_at = record.started_at or now()
        record.fence, record.invocation = self.invocation.fence, self.invocation.id
        return record

    def item(self, point: Point, **fields: Any) -> WorkItem:
        """The work of a row at the splits and seeds of the study, unless others are given."""
        driver = {"fence": self.invocation.fence, "invocation": self.invocation.id}
        return self.plan.work_item(point, **driver, **fields)

    def submit(self, rows: Iterable[Row]) -> None:
        """Queue rows in order, each after the probe that its grouping needs."""
        for row in rows:
            with self.lock:
                self._live[row.item.item_id] = row
                if row.run is not None:
                    self.tracker.trial_started(
                        row.run, row.record.point, started_at=row.record.started_at, tags=row.tags
                    )
                self.show(row)
            needs = [*row.needs]
            if (probe := row.probe) is not None:
                needs.append(probe.item_id)
                self._queue(probe, (), probe.parts(row.probe_parts))
            self._queue(row.item, needs, row.parts)

    def _queue(self, item: WorkItem, needs: Sequence[str], parts: Sequence[WorkItem]) -> None:
        self.queue.submit(item, needs, parts if len(parts) > 1 else ())

    def take(self, event: Event) -> None:
        """Take one event of the pool in; those of items that are no rows are ignored."""
        with self.lock:
            row = self._live.get(event.item_id) if isinstance(event, ItemEvent) else None
            if row is None or isinstance(event, Leased):
                return
            if isinstance(event, Done):
                del self._live[row.item.item_id]
                self._end(row, event)
                return
            known = row.fold(event, self.plan.backbone_parameters)
            if known:
                row.ends.changed(row)
            self._count(event)
            self._tell(row, event)
            if row.run is not None:
                self.tracker.event(row.run, event, stage=row.item.more)
            if isinstance(event, StageDone):
                row.ends.stage_over(row)
            elif known and isinstance(event, EpochReached):
                row.ends.reached(row)

    def held(self, item_id: str, when: dict[str, str]) -> bool:
        """Keep when a slot held an item, with the record of its row; False if nobody keeps such a record."""
        with self.lock:
            row = self._live.get(item_id)
            if row is None or row.item.purpose not in ("search", "baseline"):
                return False
            row.record.attributes.setdefault("held", []).append(when)
            return True

    def show(self, row: Row, end: End | None = None) -> None:
        """Show how a row stands; what is to be taken up again has failed for now.

        A row whose work is done may still be ``running``: a race has not decided on it.
        """
        if row.values is None:
            return
        record = row.record
        state: TrialStage = record.state
        if end is not None and end != "complete":
            state = "failed" if end == "interrupted" else end
        self.progress(trial_shown(record, row.values, state))

    def note(self, text: str) -> None:
        """Tell the user something."""
        self.progress(NoteShown(text=text))

    def close(self) -> None:
        """Tell that what still runs was interrupted."""
        with self.lock:
            for row in self._live.values():
                row.ends.changed(row)
                if row.run is not None:
                    self.tracker.trial_ended(
                        row.run,
                        "interrupted",
                        attempts=row.record.attempts,
                        device_seconds=row.record.device_seconds,
                    )
            self._live.clear()

    def _end(self, row: Row, done: Done) -> None:
        record = row.record
        record.device_seconds += done.seconds.get("total", 0.0)
        record.ended_at, record.error = now(), done.error
        end = row.ends.settle(row, done)
        if record.number >= 0 and end in ("failed", "interrupted"):
            (self.failed if end == "failed" else self.lost).append(record.number)
        row.ends.ended(row, end, done)
        if row.run is not None:
            self.tracker.trial_ended(
                row.run,
                end,
                ended_at=record.ended_at,
                attempts=record.attempts,
                device_seconds=record.device_seconds,
                parameters=record.parameters,
                share=record.share,
                error=record.error,
                keep=row.keep,
            )
        self.show(row, end)
        row.ends.over(row)

    def _count(self, event: Event) -> None:
        """Keep which cells were trained, and which were found finished."""
        if isinstance(event, CellFinished):
            self.invocation.trained.append(event.key)
            self._counted.add(event.key)
        elif isinstance(event, CellsKnown):
            found = [cell.key for cell in event.cells if cell.status == "finished"]
            self.invocation.reused += [key for key in found if key not in self._counted]
            self._counted.update(found)

    def _tell(self, row: Row, event: Event) -> None:
        """Show what people see of a row that has values."""
        if row.values is None:
            return
        trial = row.record.number
        match event:
            case CellsKnown():
                self.show(row)
            case EpochReached():
                self.progress(EpochShown(trial=trial, epoch=event.epoch, mean=event.mean))
            case CellFailure(key=key, error=error, failure=failure):
                self.progress(CellFailureShown(trial=trial, key=key, error=error, failure=failure))
