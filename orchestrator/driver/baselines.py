"""The reference rows of a study: zero-shot CLIP, and the method before its first step."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from mmap_model.configuration import Point
from mmap_model.methods import get_method
from orchestrator.driver.trials import Progress, probe_item
from orchestrator.ledger import Invocation, StudyStore, TrialRecord
from orchestrator.study import StudyPlan
from orchestrator.tracking.tracker import NoTracker, Tracker
from orchestrator.work import Event, WorkItem

ZERO_SHOT, ZERO_STEP = "zero_shot", "zero_step"


class Baselines:
    """Work on the reference rows that are still missing, and their records.

    Args:
        plan: the study.
        names: rows to compute.
        store, tracker, progress, invocation: as of the trials.
    """

    def __init__(
        self,
        plan: StudyPlan,
        names: Collection[str],
        store: StudyStore,
        tracker: Tracker | NoTracker,
        progress: Progress,
        invocation: Invocation,
    ) -> None:
        self._plan, self._store, self._tracker = plan, store, tracker
        self._progress, self._invocation = progress, invocation
        self._points = {name: baseline_point(plan, name) for name in names}
        self._rows: dict[str, TrialRecord] = {}
        self._names: dict[str, str] = {}

    def items(self) -> list[tuple[WorkItem, WorkItem | None]]:
        """Work items, each with the probe that it needs."""
        found = []
        for name, point in self._points.items():
            item = self._plan.work_item(
                point,
                item_id=f"baseline-{name}",
                purpose="baseline",
                untrained=name == ZERO_STEP,
                fence=self._invocation.fence,
                invocation=self._invocation.id,
            )
            self._names[item.item_id] = name
            self._rows[name] = TrialRecord(number=-1, point=point.to_dict())
            self._tracker.trial_started(name, point.to_dict())
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
            self._end(name, row, event)
        elif kind != "leased":
            self._tracker.event(name, event)

    def _end(self, name: str, row: TrialRecord, event: Event) -> None:
        del self._rows[name]
        complete = event["state"] == "complete"
        row.state, row.error = "complete" if complete else "failed", event["error"]
        row.device_seconds = event["seconds"].get("total", 0.0)
        if complete:
            row.value = row.epochs[-1]["mean"] if row.epochs else None
            self._store.save_baseline(name, _stored(row))
        else:
            self._progress({"kind": "note", "text": f"Reference row {name}: {event['error'] or 'not done'}"})
        self._tracker.trial_ended(
            name,
            event["state"],
            device_seconds=row.device_seconds,
            parameters=row.parameters,
            error=row.error,
        )


def baseline_names(plan: StudyPlan) -> list[str]:
    """The reference rows that a study has."""
    if not get_method(plan.study.method).trains:
        return []
    return [ZERO_SHOT, ZERO_STEP]


def baseline_point(plan: StudyPlan, name: str) -> Point:
    """The point of a reference row: of zero-shot, or the one that the search tries first."""
    if name == ZERO_SHOT:
        method = get_method("zero_shot")
        return Point(method=method.name, settings=method.Settings(), recipe=plan.study.recipe)
    return plan.space.replay(plan.first[0] if plan.first else plan.space.preset())


def _stored(row: TrialRecord) -> dict[str, Any]:
    return {name: value for name, value in row.to_dict().items() if name != "number"}
