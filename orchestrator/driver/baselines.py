"""The reference rows of a study: zero-shot CLIP, and the best trial before its first step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mmap_model.cells import Point
from mmap_model.methods import get_method
from orchestrator.driver.rows import ZERO_SHOT, ZERO_STEP, finalists, tracked_as
from orchestrator.driver.trials import Progress, probe_item
from orchestrator.ledger import Invocation, Ledger, StudyStore, TrialRecord
from orchestrator.ledger.documents import now
from orchestrator.study import StudyPlan
from orchestrator.tracking.tracker import NoTracker, Tracker
from orchestrator.work.item import Event, WorkItem


class Baselines:
    """Work on reference rows, and their records.

    Args:
        plan: the study.
        points: rows to compute, by name.
        store, tracker, progress, invocation: as of the trials.

    Attributes:
        errors: why rows could not be measured.
    """

    def __init__(
        self,
        plan: StudyPlan,
        points: Mapping[str, Point],
        store: StudyStore,
        tracker: Tracker | NoTracker,
        progress: Progress,
        invocation: Invocation,
    ) -> None:
        self._plan, self._store, self._tracker = plan, store, tracker
        self._progress, self._invocation = progress, invocation
        self._points = dict(points)
        self._rows: dict[str, TrialRecord] = {}
        self._names: dict[str, str] = {}
        self.errors: dict[str, str] = {}

    def items(self) -> list[tuple[WorkItem, WorkItem | None]]:
        """Work items, each with the probe that it needs."""
        found = []
        for name, point in self._points.items():
            item = self._plan.work_item(
                point,
                item_id=f"baseline-{name}",
                purpose="baseline",
                retry_failed=True,
                untrained=name == ZERO_STEP,
                fence=self._invocation.fence,
                invocation=self._invocation.id,
            )
            self._names[item.item_id] = name
            row = TrialRecord(number=-1, point=point.to_dict(), started_at=now())
            row.fence, row.invocation = self._invocation.fence, self._invocation.id
            self._rows[name] = row
            self._tracker.trial_started(tracked_as(name, row), row.point, started_at=row.started_at)
            found.append((item, probe_item(item, point)))
        return found

    @property
    def live(self) -> int:
        """Rows whose work is not over."""
        return len(self._rows)

    def take(self, event: Event) -> None:
        """Take one event of an item in; those of other items are ignored."""
        name = self._names.get(event.get("item_id", ""))
        row = self._rows.get(name) if name is not None else None
        if name is None or row is None:
            return
        kind = event["kind"]
        if kind == "cells":
            row.cells = [
                {field: c[field] for field in ("key", "split", "seed", "partition", "parameters")}
                for c in event["cells"]
            ]
            row.parameters = max((cell["parameters"] for cell in row.cells), default=None)
        elif kind == "epoch":
            row.epochs = [{field: event[field] for field in ("epoch", "mean", "values")}]
        elif kind == "cell_finished":
            self._invocation.trained.append(event["key"])
        if kind == "done":
            try:
                self._end(name, row, event)
            finally:
                del self._rows[name]
        elif kind != "leased":
            self._tracker.event(tracked_as(name, row), event)

    def _end(self, name: str, row: TrialRecord, event: Event) -> None:
        complete = event["state"] == "complete"
        row.state, row.error = "complete" if complete else "failed", event["error"]
        row.device_seconds = event["seconds"].get("total", 0.0)
        row.ended_at = now()
        if complete:
            row.value = row.epochs[-1]["mean"] if row.epochs else None
            self._store.save_baseline(name, _stored(row))
        else:
            self.errors[name] = event["error"] or event["state"]
            self._progress({"kind": "note", "text": f"Reference row {name}: {self.errors[name]}"})
        self._tracker.trial_ended(
            tracked_as(name, row),
            event["state"] if event["state"] != "lost" else "interrupted",
            ended_at=row.ended_at,
            attempts=row.attempts,
            device_seconds=row.device_seconds,
            parameters=row.parameters,
            error=row.error,
            keep=name == ZERO_STEP,  # the next best trial's takes its place in the records
        )

    def close(self) -> None:
        """Tell that what still runs was interrupted."""
        for name, row in self._rows.items():
            self._tracker.trial_ended(tracked_as(name, row), "interrupted")
        self._rows.clear()


def baseline_points(plan: StudyPlan, trials: Iterable[TrialRecord]) -> dict[str, Point]:
    """The reference rows that a study has, by name; the zero-step row belongs to the best trial so far."""
    if not get_method(plan.study.method).trains:
        return {}
    zero_shot = get_method(ZERO_SHOT)
    points = {ZERO_SHOT: Point(method=ZERO_SHOT, settings=zero_shot.Settings(), recipe=plan.study.recipe)}
    for best in finalists(trials, 1):
        points[ZERO_STEP] = Point.from_dict(best.point)
    return points


def missing_baselines(
    plan: StudyPlan, store: StudyStore, ledger: Ledger, trials: Iterable[TrialRecord]
) -> dict[str, Point]:
    """Reference rows that have no record, or one of another point or of cells that cannot be read."""
    rows = store.load_baselines()
    readable = ledger.get_many([cell["key"] for row in rows.values() for cell in row["cells"]])

    def recorded(name: str, point: Point) -> bool:
        row = rows.get(name)
        return (
            row is not None
            and row["point"] == point.to_dict()
            and all(cell["key"] in readable for cell in row["cells"])
        )

    points = baseline_points(plan, trials)
    return {name: point for name, point in points.items() if not recorded(name, point)}


def _stored(row: TrialRecord) -> dict[str, Any]:
    return {name: value for name, value in row.to_dict().items() if name != "number"}
