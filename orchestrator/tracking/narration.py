"""Rows as operations. What is told while a study runs and what is told again from its records is made here.

Everything follows from the row and the times in it, nothing from the clock, so both ways say the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.redaction import redact
from orchestrator.statistics.summary import seed_means, summarize
from orchestrator.tracking import operations as op
from orchestrator.tracking.metrics import epoch_metrics, mean_metrics, summary_metrics, test_metrics
from orchestrator.tracking.names import cell_name, stated, trial_name
from orchestrator.tracking.operations import Operation
from orchestrator.tracking.parameters import COLUMN, flat
from orchestrator.tracking.row import Reports, RowEnd, TrackedRow

Operations = list[Operation]


@dataclass(frozen=True, kw_only=True)
class Narration:
    """Tells of the rows of one study.

    Attributes:
        study: its name.
        tags: of every run, e.g. the names of dataset and backbone.
        fixed: settings that all trials share, by dotted name: the study's own run tells them once, so that
            the parameters of a trial are those by which it differs from others.
        locate: path or URI of a cell in the ledger.
    """

    study: str
    tags: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    locate: Callable[[str], str] | None = None

    def whole(self, row: TrackedRow) -> Operations:
        """Everything about a row."""
        told = [*self.started(row), *self.cells(row)]
        for epoch, reports in row.reports():
            told += [*self.epoch(row, epoch, reports), *self.means(row, epoch, reports)]
        for key in row.finished:
            told += self.cell_finished(row, key)
        for key in row.failed:
            told += self.cell_failed(row, key)
        if row.end is not None:
            told += self.ended(row, row.end)
        return told + self.tested(row)

    def started(self, row: TrackedRow) -> Operations:
        """It begins or is taken up again."""
        kind = "trial" if isinstance(row.trial, int) else "baseline"
        begin = op.start(
            op.trial_run(row.trial),
            name=trial_name(row.trial, row.point, _partitions(row)),
            time=op.milliseconds(row.started_at),
            tags={"study": self.study, **self.tags, "kind": kind, "trial": row.trial, **row.tags},
            params=self._params(row),
            cells=row.keys,
        )
        return [begin]

    def cells(self, row: TrackedRow) -> Operations:
        """Its cells are known."""
        if not row.cells:
            return []
        run = op.trial_run(row.trial)
        name = trial_name(row.trial, row.point, _partitions(row))
        splits = dict.fromkeys(cell["split"] for cell in row.cells)
        told = [op.log(run, tags={"mlflow.runName": name, **(stated(splits) if len(splits) > 1 else {})})]
        told += _counts(run, max((cell["parameters"] for cell in row.cells), default=None), None)
        for cell in row.cells:
            told += self._cell(row, cell)
        return told

    def epoch(self, row: TrackedRow, epoch: int, reports: Reports) -> Operations:
        """All its cells have reached an epoch: what each of them reached."""
        return [
            op.log(op.cell_run(row.trial, key), epoch_metrics(report), stated(report.get("tasks") or ()))
            for key, report in reports.items()
        ]

    def means(self, row: TrackedRow, epoch: int, reports: Reports) -> Operations:
        """What its cells reached in an epoch, as a mean."""
        at = max(op.milliseconds(report["at"]) for report in reports.values())
        cells = [cell for cell in row.cells if cell["key"] in reports]
        values = [reports[cell["key"]]["accuracy"] for cell in cells]
        if not cells or None in values:
            return []
        return [op.log(op.trial_run(row.trial), mean_metrics(cells, values, epoch, at))]

    def cell_finished(self, row: TrackedRow, key: str) -> Operations:
        """A cell was trained to its end, by this row."""
        run, seconds = op.cell_run(row.trial, key), row.finished[key]["seconds"] or {}
        time = op.milliseconds(row.finished[key]["at"])
        numbers = seconds.items() if isinstance(seconds, Mapping) else [("total", seconds)]
        metrics = [(f"seconds/{name}", float(value), 0, time) for name, value in numbers]
        return [op.log(run, metrics), op.end(run, "complete", time)]

    def cell_failed(self, row: TrackedRow, key: str) -> Operations:
        run, failed = op.cell_run(row.trial, key), row.failed[key]
        return [
            op.log(run, tags={"error": redact(failed["error"])}),
            op.end(run, "failed", op.milliseconds(failed["at"])),
        ]

    def ended(self, row: TrackedRow, end: RowEnd) -> Operations:
        """It ended, or the driver did. Seconds are told of what ended, under the number of the attempt."""
        run, time = op.trial_run(row.trial), op.milliseconds(end.at)
        metrics = []
        if end.device_seconds is not None and end.state != "interrupted":
            metrics = [("device_seconds", float(end.device_seconds), max(0, end.attempts - 1), time)]
        tags = {"state": end.state} if end.error is None else {"state": end.state, "error": redact(end.error)}
        told = [*_counts(run, end.parameters, end.share), op.log(run, metrics, tags)]
        if end.state != "complete":
            for cell in row.cells:
                if cell["status"] in ("new", "resumed"):
                    own = op.cell_run(row.trial, cell["key"])
                    told += [op.log(own, tags={"state": end.state}), op.end(own, end.state, time)]
        return [*told, op.end(run, end.state, time)]

    def settled(self, trial: op.Trial, state: str, at: str) -> Operations:
        """It was decided what a row has come to."""
        run = op.trial_run(trial)
        return [op.log(run, tags={"state": state}), op.end(run, state, op.milliseconds(at))]

    def tested(self, row: TrackedRow) -> Operations:
        """Its cells were scored on the test images."""
        if not row.tests:
            return []
        told = [
            op.log(
                op.cell_run(row.trial, key),
                test_metrics(test),
                stated(test["metrics"].get("tasks") or ()),
            )
            for key, test in row.tests.items()
        ]
        cells = [cell for cell in row.cells if cell["key"] in row.tests]
        values = {
            (cell["split"], cell["seed"]): row.tests[cell["key"]]["metrics"]["accuracy"] for cell in cells
        }
        time = max(op.milliseconds(test["scored_at"]) for test in row.tests.values())
        means = summarize(list(seed_means(values).values()))
        return [*told, op.log(op.trial_run(row.trial), summary_metrics(means, 0, time, "test"))]

    def _params(self, row: TrackedRow) -> dict[str, Any]:
        """What tells it from other rows; all of a row of a comparison, whose methods share little."""
        params = flat(row.point)
        if row.tags.get("kind") == COLUMN:
            return params
        return {k: v for k, v in params.items() if k not in self.fixed or self.fixed[k] != v}

    def _cell(self, row: TrackedRow, cell: Mapping[str, Any]) -> Operations:
        run = op.cell_run(row.trial, cell["key"])
        begin = op.start(
            run,
            parent=op.trial_run(row.trial),
            name=cell_name(cell),
            time=op.milliseconds(row.started_at),
            tags={
                "study": self.study,
                **self.tags,
                "kind": "cell",
                "trial": row.trial,
                "cell": cell["key"],
                "split": cell["split"],
                "seed": cell["seed"],
                "partition": cell.get("partition"),
                "dataset_manifest": cell.get("dataset"),
                "backbone_fingerprint": cell.get("backbone"),
                "ledger": None if self.locate is None else self.locate(cell["key"]),
                "reused_from": self._origin(row, cell),
            },
        )
        told = [begin, *_counts(run, cell["parameters"], None)]
        if cell["status"] == "finished":
            told.append(op.end(run, "complete", op.milliseconds(cell.get("at") or row.started_at)))
        return told

    def _origin(self, row: TrackedRow, cell: Mapping[str, Any]) -> str | None:
        """Where a reused cell comes from; None of the row's own."""
        origin = cell.get("origin")
        if origin is None or is_its_own(self.study, row, origin):
            return None
        trial = origin["trial"]
        return f"study {origin['study']}" + ("" if trial is None else f", trial {trial}")


def is_its_own(study: str, row: TrackedRow, origin: Mapping[str, Any]) -> bool:
    """Whether a cell was trained by the row itself; those of rows without number name only the study."""
    trial = row.trial if isinstance(row.trial, int) else None
    return bool((origin["study"], origin["trial"]) == (study, trial))


def _partitions(row: TrackedRow) -> list[Any]:
    return [cell.get("partition") for cell in row.cells]


def _counts(run: str, parameters: int | None, share: float | None) -> Operations:
    counts = {"parameters": parameters, "parameter_share": share}
    metrics = [(name, float(value), 0, 0) for name, value in counts.items() if value is not None]
    return [op.log(run, metrics)] if metrics else []
