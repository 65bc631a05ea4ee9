"""What a driver tells about its study; a thread of its own carries it to MLflow."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from orchestrator.redaction import redact, shown_uri
from orchestrator.statistics import Summary
from orchestrator.tracking import operations as op
from orchestrator.tracking.operations import Trial
from orchestrator.tracking.outbox import Operation, Outbox

LINGER = 0.5
"""Seconds that news waits for more of its kind, so that one call carries an epoch of many cells."""

BACKOFF = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds between attempts while the server does not answer."""


class Writer(Protocol):
    """Where operations go; ``ProcessWriter`` in earnest."""

    def write(self, operations: list[Operation]) -> Any:
        """Apply operations; yields ``(operation, reason)`` of those refused for good. May raise anything."""
        ...

    def close(self) -> None:
        """Nothing more will come."""
        ...


class Tracker:
    """Tells MLflow about one study. No method waits for the server or raises because of it.

    Args:
        uri: tracking URI.
        study: name of the study, which is the name of the experiment.
        outbox: local folder for what is not delivered yet; an earlier process's news are delivered first.
        tags: of every run, e.g. the names of dataset and backbone.
        locate: path or URI of a cell in the ledger.
        connect: makes the writer, on the tracker's own thread.
    """

    def __init__(
        self,
        uri: str,
        study: str,
        outbox: Path | str,
        *,
        connect: Callable[[], Writer],
        tags: Mapping[str, str] | None = None,
        locate: Callable[[str], str] | None = None,
    ) -> None:
        self.uri, self.study = uri, study
        self._tags = {"study": study, **(tags or {})}
        self._locate = locate
        self._connect = connect
        self._outbox = Outbox(outbox)
        self._points: dict[Trial, dict[str, Any]] = {}
        self._cells: dict[Trial, list[dict[str, Any]]] = {}
        self._delivered = threading.Event()
        self._closing = threading.Event()
        self.last_error: str | None = None
        self._thread = threading.Thread(target=self._deliver, name="tracking", daemon=True)
        self._thread.start()

    def trial_started(
        self,
        trial: Trial,
        point: dict[str, Any],
        *,
        parameters: int | None = None,
        share: float | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        """A trial (or a reference row, by name) begins or is taken up again.

        Args:
            trial: its number, or ``zero_shot``, ``zero_step``.
            point: ``Point.to_dict()``.
            parameters: trained parameters of one replicate.
            share: of the backbone's parameters, as a fraction.
            tags: further tags.
        """
        self._points[trial] = point
        run, now = op.trial_run(trial), _now()
        kind = "trial" if isinstance(trial, int) else "baseline"
        self._outbox.append(
            op.start(
                run,
                name=op.trial_name(trial, point),
                time=now,
                tags={**self._tags, "kind": kind, "trial": trial, **(tags or {})},
                params=op.flat_params(point),
            )
        )
        self._log_counts(run, parameters, share)

    def event(self, trial: Trial, event: Mapping[str, Any]) -> None:
        """Pass on any event of the workbench; those of no interest are ignored."""
        handler = {
            "cells": self._on_cells,
            "epoch": self._on_epoch,
            "cell_finished": self._on_finished,
            "cell_failed": self._on_failed,
            "test": self._on_test,
        }.get(event["kind"])
        if handler is not None:
            handler(trial, event)

    def trial_ended(
        self,
        trial: Trial,
        state: str,
        *,
        device_seconds: float | None = None,
        parameters: int | None = None,
        share: float | None = None,
        error: str | None = None,
    ) -> None:
        """``state`` is complete, pruned, failed, cancelled or interrupted."""
        run, now = op.trial_run(trial), _now()
        self._log_counts(run, parameters, share)
        metrics = [] if device_seconds is None else [("device_seconds", float(device_seconds), 0, now)]
        tags = {"state": state} if error is None else {"state": state, "error": redact(error)}
        self._outbox.append(op.log(run, metrics, tags))
        if state != "complete":
            for cell in self._cells.get(trial, []):
                if cell["status"] in ("new", "resumed"):
                    self._outbox.append(op.end(op.cell_run(trial, cell["key"]), state, now))
        self._outbox.append(op.end(run, state, now))
        self._points.pop(trial, None)
        self._cells.pop(trial, None)

    def trial_tested(self, trial: Trial, test: Summary) -> None:
        """The test accuracy of a finalist over its seeds."""
        self._outbox.append(op.log(op.trial_run(trial), op.summary_metrics(test, 0, _now(), "test")))

    def flush(self, timeout: float) -> bool:
        """Wait until everything told so far was delivered; False if ``timeout`` seconds did not suffice."""
        until = time.monotonic() + timeout
        while self._outbox.waiting:
            self._delivered.clear()
            if not self._outbox.waiting:
                break
            left = until - time.monotonic()
            if left <= 0 or not self._thread.is_alive():
                return False
            self._delivered.wait(min(left, 0.5))
        return True

    def close(self, timeout: float = 60.0) -> str | None:
        """Deliver what is left, for at most ``timeout`` seconds.

        Returns:
            None if all was delivered, else what to tell the user: nothing is lost, and where it lies.
        """
        self._closing.set()
        self._outbox.appended.set()
        delivered = self.flush(timeout)
        if delivered:
            self._thread.join(timeout=5)
        if not self._thread.is_alive():
            self._outbox.close()
        if delivered:
            return None
        return (
            f"{shown_uri(self.uri)} did not take everything ({self.last_error or 'still busy'}). What is "
            f"missing is kept in {self._outbox.folder} and is sent when the study runs again."
        )

    def _on_cells(self, trial: Trial, event: Mapping[str, Any]) -> None:
        cells, now = list(event["cells"]), _now()
        self._cells[trial] = [dict(cell) for cell in cells]
        partitions = [cell.get("partition") for cell in cells]
        name = op.trial_name(trial, self._points.get(trial, {}), partitions)
        run = op.trial_run(trial)
        self._outbox.append(op.log(run, tags={"mlflow.runName": name}))
        self._log_counts(run, max((cell["parameters"] for cell in cells), default=None), None)
        for cell in cells:
            origin = cell.get("origin")
            is_reused = origin is not None and (origin["study"], origin["trial"]) != (self.study, trial)
            self._outbox.append(
                op.start(
                    op.cell_run(trial, cell["key"]),
                    parent=run,
                    name=op.cell_name(cell),
                    time=now,
                    tags={
                        **self._tags,
                        "kind": "cell",
                        "trial": trial,
                        "cell": cell["key"],
                        "split": cell["split"],
                        "seed": cell["seed"],
                        "partition": cell.get("partition"),
                        "dataset_manifest": cell.get("dataset"),
                        "backbone_fingerprint": cell.get("backbone"),
                        "ledger": None if self._locate is None else self._locate(cell["key"]),
                        "reused_from": _origin(origin) if is_reused else None,
                    },
                )
            )
            self._log_counts(op.cell_run(trial, cell["key"]), cell["parameters"], None)
            if cell["status"] == "finished":
                self._outbox.append(op.end(op.cell_run(trial, cell["key"]), "complete", now))

    def _on_epoch(self, trial: Trial, event: Mapping[str, Any]) -> None:
        reports = event["cells"]
        for key, report in reports.items():
            self._outbox.append(op.log(op.cell_run(trial, key), op.epoch_metrics(report)))
        at = max(op.milliseconds(report["at"]) for report in reports.values())
        cells = [cell for cell in self._cells.get(trial, []) if cell["key"] in reports]
        values = [reports[cell["key"]]["accuracy"] for cell in cells]
        if cells and None not in values:
            metrics = op.mean_metrics(cells, values, event["epoch"], at)
            self._outbox.append(op.log(op.trial_run(trial), metrics))

    def _on_finished(self, trial: Trial, event: Mapping[str, Any]) -> None:
        run, now = op.cell_run(trial, event["key"]), _now()
        self._set_status(trial, event["key"], "finished")
        seconds = event.get("seconds") or {}
        numbers = seconds.items() if isinstance(seconds, Mapping) else [("total", seconds)]
        self._outbox.append(op.log(run, [(f"seconds/{n}", float(v), 0, now) for n, v in numbers]))
        self._outbox.append(op.end(run, "complete", now))

    def _on_failed(self, trial: Trial, event: Mapping[str, Any]) -> None:
        run = op.cell_run(trial, event["key"])
        self._set_status(trial, event["key"], "failed")
        self._outbox.append(op.log(run, tags={"error": redact(event["error"])}))
        self._outbox.append(op.end(run, "failed", _now()))

    def _on_test(self, trial: Trial, event: Mapping[str, Any]) -> None:
        metrics, now = event["metrics"], _now()
        numbers = [("test_accuracy", float(metrics["accuracy"]), 0, now)]
        for task, values in (metrics.get("tasks") or {}).items():
            numbers.append((op.metric_name(f"test_accuracy/{task}"), float(values["accuracy"]), 0, now))
        self._outbox.append(op.log(op.cell_run(trial, event["key"]), numbers))

    def _set_status(self, trial: Trial, key: str, status: str) -> None:
        for cell in self._cells.get(trial, []):
            if cell["key"] == key:
                cell["status"] = status

    def _log_counts(self, run: str, parameters: int | None, share: float | None) -> None:
        counts = {"parameters": parameters, "parameter_share": share}
        metrics = [(name, float(value), 0, 0) for name, value in counts.items() if value is not None]
        if metrics:
            self._outbox.append(op.log(run, metrics))

    def _deliver(self) -> None:
        writer: Writer | None = None
        failures = 0
        while True:
            self._outbox.appended.wait()
            if not self._closing.is_set():
                self._closing.wait(LINGER)
            self._outbox.appended.clear()
            try:
                writer = writer or self._connect()
                on_disk = self._outbox.write_out()
                while self._outbox.pending_bytes:
                    news, position = self._outbox.read()
                    for operation, reason in writer.write(news):
                        self.last_error = redact(reason)
                        self._outbox.reject(operation, self.last_error)
                    self._outbox.acknowledge(position)
                if not on_disk:
                    raise OSError(f"{self._outbox.folder} takes no more news; it waits in memory")
                failures = 0
                self._delivered.set()
            except Exception as error:  # whatever the server or its client does, the sweep goes on
                self.last_error = redact(f"{type(error).__name__}: {error}".splitlines()[0])[:300]
                self._outbox.appended.set()
                delay = BACKOFF[min(failures, len(BACKOFF) - 1)]
                failures += 1
                if self._closing.is_set():
                    time.sleep(min(delay, 1.0))
                else:
                    self._closing.wait(delay)
                continue
            if self._closing.is_set():
                writer.close()
                return


class NoTracker:
    """Stands in where tracking is switched off."""

    last_error: str | None = None

    def trial_started(self, trial: Trial, point: dict[str, Any], **about: Any) -> None: ...
    def event(self, trial: Trial, event: Mapping[str, Any]) -> None: ...
    def trial_ended(self, trial: Trial, state: str, **about: Any) -> None: ...
    def trial_tested(self, trial: Trial, test: Summary) -> None: ...
    def flush(self, timeout: float) -> bool:
        return True

    def close(self, timeout: float = 60.0) -> str | None:
        return None


def _origin(origin: Mapping[str, Any]) -> str:
    trial = origin["trial"]
    return f"study {origin['study']}" + ("" if trial is None else f", trial {trial}")


def _now() -> int:
    return round(time.time() * 1000)
