"""Which points of a run's metrics a tracking server has already.

A point told twice with one time is one point for MLflow. One that was measured again has another time: a cell
that failed and trains again, or a run told by an older version. Where that may be, the histories on the
server are read, and what says nothing new is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

MetricPoint = tuple[str, float, int, int]
"""Name, value, step, time."""

History = dict[int, tuple[int, float]]
"""By step, the time and value of its latest point."""


class KnownMetrics:
    """Of runs that existed before they were told of here; of others everything is new.

    Args:
        client: reads the histories, when they are needed.
    """

    def __init__(self, client: MlflowClient) -> None:
        self._client = client
        self._names: dict[str, set[str]] = {}
        self._histories: dict[str, dict[str, History]] = {}

    def look_at(self, run: Run) -> None:
        """A run that is there, as the server shows it."""
        if run.data.metrics:
            self._names[run.info.run_id] = set(run.data.metrics)
            self._histories[run.info.run_id] = {}

    def forget(self, run_id: str) -> None:
        self._names.pop(run_id, None)
        self._histories.pop(run_id, None)

    def fresh(self, run_id: str, points: Iterable[MetricPoint]) -> list[MetricPoint]:
        """Those of ``points`` that the server does not show yet at their step."""
        there = self._names.get(run_id)
        if there is None:
            return list(points)
        curves: dict[str, list[MetricPoint]] = {}
        for point in points:
            curves.setdefault(point[0], []).append(point)
        alike: dict[tuple[tuple[int, int], ...], list[str]] = {}
        for name, curve in curves.items():
            alike.setdefault(tuple((step, time) for _, _, step, time in curve), []).append(name)
        kept: list[MetricPoint] = []
        for times, names in alike.items():
            known = sorted(name for name in names if name in there)
            if known and not self._is_same_story(run_id, known[0], times):
                for name in names:
                    history = self._history(run_id, name) if name in there else {}
                    kept += [p for p in curves[name] if p[2] not in history or history[p[2]][1] != p[1]]
            else:
                kept += [point for name in names for point in curves[name]]
        return kept

    def add(self, run_id: str, points: Iterable[MetricPoint]) -> None:
        """The server took them."""
        if run_id in self._names:
            for name, value, step, time in points:
                self._names[run_id].add(name)
                if (history := self._histories[run_id].get(name)) is not None:
                    history[step] = (time, value)

    def _is_same_story(self, run_id: str, name: str, times: Sequence[tuple[int, int]]) -> bool:
        """Whether what is there at these steps has these times: then all metrics of that measurement have."""
        history = self._history(run_id, name)
        return all(step not in history or history[step][0] == time for step, time in times)

    def _history(self, run_id: str, name: str) -> History:
        known = self._histories[run_id]
        if name not in known:
            found = self._client.get_metric_history(run_id, name)
            ordered = sorted(found, key=lambda metric: metric.timestamp)
            known[name] = {metric.step: (metric.timestamp, metric.value) for metric in ordered}
        return known[name]
