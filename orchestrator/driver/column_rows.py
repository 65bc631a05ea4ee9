"""The rows of a comparison while they are trained: queued, recorded, told. No Ray in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from orchestrator.compare.columns import run_name
from orchestrator.compare.plan import ComparePlan, Row
from orchestrator.driver.trials import Progress, Queue, probe_item, trial_item
from orchestrator.ledger import Invocation, StudyStore, TrialRecord
from orchestrator.ledger.documents import now
from orchestrator.tracking.tracker import NoTracker, Tracker
from orchestrator.work.item import Event

CELL = ("key", "split", "seed", "partition", "parameters")


class ColumnRows:
    """Rows in work.

    Args:
        plan: the comparison.
        queue: the pool.
        store: takes the records.
        tracker, progress: told of everything.
        invocation: of this driver.
        retry_failed: train failed cells again.
        on_end: told of every row that ended, with its record as written.

    Attributes:
        failed, lost: numbers of the rows that failed, or whose workers kept dying.
    """

    def __init__(
        self,
        plan: ComparePlan,
        queue: Queue,
        store: StudyStore,
        tracker: Tracker | NoTracker,
        progress: Progress,
        invocation: Invocation,
        *,
        retry_failed: bool = False,
        on_end: Callable[[TrialRecord], None] = lambda record: None,
    ) -> None:
        self._on_end = on_end
        self._plan, self._queue, self._store = plan, queue, store
        self._tracker, self._progress, self._invocation = tracker, progress, invocation
        self._retry_failed = retry_failed
        self._live: dict[str, tuple[Row, TrialRecord]] = {}
        self._labels = {column.name: column.label for column in plan.columns}
        self._regimes = {column.name: column.regime for column in plan.columns}
        self._next = 0
        self.failed: list[int] = []
        self.lost: list[int] = []

    @property
    def live(self) -> int:
        """Rows whose work is not over."""
        return len(self._live)

    def submit(self, rows: Sequence[Row]) -> None:
        """Queue rows; one that shares cells with another waits for it instead of training them twice."""
        items: dict[str, str] = {}
        for row in sorted(rows, key=lambda row: len(row.seeds)):  # what a row waits for comes before it
            number, self._next = self._next, self._next + 1
            record = TrialRecord(number=number, point=row.point.to_dict(), started_at=now())
            record.fence, record.invocation = self._invocation.fence, self._invocation.id
            item = self._plan.work_item(
                row,
                item_id=trial_item(number),
                fence=self._invocation.fence,
                invocation=self._invocation.id,
                retry_failed=self._retry_failed,
            )
            self._live[item.item_id] = row, record
            about = {"kind": "column", "column": row.column, "split": row.split.label}
            self._tracker.trial_started(
                self.tracked_as(row), record.point, started_at=record.started_at, tags=about
            )
            self._show(row, record)
            needs = [items[other.key] for other in rows if other.key in items and _within(other, row)]
            probe = probe_item(item, row.point)
            if probe is not None:
                self._queue.submit(probe)
                needs.append(probe.item_id)
            self._queue.submit(item, needs)
            items[row.key] = item.item_id

    def tracked_as(self, row: Row) -> str:
        """Name of the row's run in MLflow: seeds that are added later join it."""
        return run_name(self._labels[row.column], self._regimes[row.column], row.split.label, row.lr)

    def take(self, event: Event) -> None:
        """Take one event of an item in; those of other items are ignored."""
        found = self._live.get(event.get("item_id", ""))
        if found is None:
            return
        row, record = found
        kind = event["kind"]
        if kind == "cells":
            self._on_cells(row, record, event)
        elif kind == "epoch":
            record.epochs = [{name: event[name] for name in ("epoch", "mean", "values")}]
            told = {"trial": record.number, "epoch": event["epoch"], "mean": event["mean"]}
            self._progress({"kind": "epoch", **told})
        elif kind == "cell_finished":
            self._invocation.trained.append(event["key"])
        elif kind == "cell_failed":
            told = {"trial": record.number, "key": event["key"], "error": event["error"]}
            self._progress({"kind": "cell", "state": "failed", **told})
        elif kind in ("stopped", "requeued"):
            record.device_seconds += event["seconds"].get("total", 0.0)
        if kind == "done":
            try:
                self._on_done(row, record, event)
            finally:
                self._live.pop(event["item_id"], None)
        elif kind != "leased":
            self._tracker.event(self.tracked_as(row), event)

    def close(self) -> None:
        """Tell that what still runs was interrupted."""
        for row, record in self._live.values():
            self._tracker.trial_ended(
                self.tracked_as(row),
                "interrupted",
                attempts=record.attempts,
                device_seconds=record.device_seconds,
            )
        self._live.clear()

    def _on_cells(self, row: Row, record: TrialRecord, event: Event) -> None:
        record.cells = [{name: cell[name] for name in CELL} for cell in event["cells"]]
        record.parameters = max((cell["parameters"] for cell in record.cells), default=None)
        if record.parameters is not None:
            record.share = record.parameters / self._plan.base.backbone_parameters
        known = {*self._invocation.reused, *self._invocation.trained}
        self._invocation.reused += [
            c["key"] for c in event["cells"] if c["status"] == "finished" and c["key"] not in known
        ]
        self._show(row, record)

    def _on_done(self, row: Row, record: TrialRecord, event: Event) -> None:
        state, record.error = event["state"], event["error"]
        record.device_seconds += event["seconds"].get("total", 0.0)
        record.ended_at = now()
        if state == "complete":
            record.state, record.value = "complete", _number(record.epochs)
        elif state == "failed":
            record.state = "failed"
            self.failed.append(record.number)
        else:
            self.lost.append(record.number)
        if record.state != "running":
            record.attributes = {
                "column": row.column,
                "split": row.split.label,
                "lr": row.lr,
                "tracked_as": self.tracked_as(row),
            }
            self._store.save_row(row.key, record)
        self._tracker.trial_ended(
            self.tracked_as(row),
            state if record.state != "running" else "interrupted",
            ended_at=record.ended_at,
            attempts=record.attempts,
            device_seconds=record.device_seconds,
            parameters=record.parameters,
            share=record.share,
            error=record.error,
        )
        self._show(row, record, record.state if record.state != "running" else "failed")
        self._queue.forget(event["item_id"])
        self._on_end(record)

    def _show(self, row: Row, record: TrialRecord, state: str | None = None) -> None:
        values = {"column": self._labels[row.column], "regime": self._regimes[row.column]}
        shown = {name: value for name, value in values.items() if value is not None}
        shown["split"] = row.split.label
        if row.lr is not None:
            shown["lr"] = row.lr  # type: ignore[assignment]
        event: Event = {
            "kind": "trial",
            "number": record.number,
            "state": state or record.state,
            "values": shown,
            "parameters": record.parameters,
            "error": record.error,
        }
        if record.epochs:
            event["mean"] = record.epochs[-1]["mean"]
        self._progress(event)


def unfinished(rows: Iterable[Row], known: Mapping[str, TrialRecord], readable: Iterable[str]) -> list[Row]:
    """Rows without a record, or of which a cell cannot be read any more; failed ones count as finished."""
    there = set(readable)

    def is_finished(row: Row) -> bool:
        record = known.get(row.key)
        if record is None:
            return False
        return record.state == "failed" or all(key in there for key in record.keys)

    return [row for row in rows if not is_finished(row)]


def _within(small: Row, large: Row) -> bool:
    """Whether all cells of one row are among those of another with more seeds."""
    return (
        small.point == large.point
        and small.split == large.split
        and len(small.seeds) < len(large.seeds)
        and set(small.seeds) <= set(large.seeds)
    )


def _number(epochs: Sequence[Mapping[str, float | None]]) -> float | None:
    value = epochs[-1]["mean"] if epochs else None
    return value if value is not None and math.isfinite(value) else None
