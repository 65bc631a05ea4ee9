"""Cells trained together: resumed where they were, saved after every epoch, committed once."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from mmap_model.cells import Cell
from mmap_model.out_of_memory import is_out_of_memory
from mmap_model.revisions import revisions_of
from orchestrator.execution.engine import BatchRun, Engine, EngineReport
from orchestrator.execution.resuming import Start
from orchestrator.ledger import InFlight, Ledger
from orchestrator.ledger.cells import HISTORY
from orchestrator.ledger.documents import encode, now
from orchestrator.work.doing import Doing
from orchestrator.work.failures import Failure, failure_of, is_device_failure
from orchestrator.work.provenance import provenance

History = dict[str, list[dict[str, Any]]]


class Superseded(Exception):
    """Another driver took the study over: what this worker does no longer counts."""


class Interruption(Exception):
    """The driver wants the work stopped; the last saved epoch stays."""


class Unreadable(Exception):
    """Data of some cell in a batch of several cannot be read, before any epoch of it was trained."""


class Batch:
    """The unfinished cells of one (point, split), or one of them where replicates are not fused.

    Args:
        start: its unfinished cells, and the state that they go on from: the batch is built of all cells of
            that, because only the same batch goes on bit for bit.
        engine, ledger: what trains and what records.
        about: study, trial, invocation: kept with states and records.
        grouping: by key, how its partition was found; kept with its record.
        is_valid: False once another driver took over.

    Attributes:
        history: per key the reports of the epochs behind it, each with its ``epoch`` and time (``at``).
        failed: per key kind and error of cells that failed here.
    """

    def __init__(
        self,
        start: Start,
        engine: Engine,
        ledger: Ledger,
        *,
        about: dict[str, Any],
        grouping: dict[str, dict[str, Any]],
        is_valid: Callable[[], bool],
    ) -> None:
        self.cells = list(start.cells)
        self._engine = engine
        self._ledger = ledger
        self._about = about
        self.grouping = grouping
        self._is_valid = is_valid
        self._saved = start.state
        self._built = list(start.built)
        self._run: BatchRun | None = None
        self._epochs: Iterator[EngineReport] | None = None
        self._untrained = self.cells[0].kind == "untrained"
        self._last = self.cells[0].configuration.recipe.epochs
        self.history: History = {cell.key: [] for cell in self.cells}
        self.failed: dict[str, tuple[Failure, str]] = {}
        self._cancelled: frozenset[str] = frozenset()
        self.save_seconds = 0.0
        if self._saved is not None:
            self.history.update(self._saved.history)

    @property
    def keys(self) -> list[str]:
        """Of its unfinished cells."""
        return [cell.key for cell in self.cells]

    @property
    def width(self) -> int:
        """Replicates in training, those included that failed, were cancelled or finished elsewhere."""
        return len(self._built)

    @property
    def epoch(self) -> int:
        """Epochs completed, restored ones included."""
        if self._run is not None:
            return self._run.epoch
        return self._saved.epoch if self._saved is not None else 0

    @property
    def doing(self) -> Doing:
        """What happens to it at this moment; for other threads."""
        run = self._run
        position = None if run is None else run.position
        about = {"epochs": self._last, "cells": len(self.cells)}
        if position is None:
            return Doing(stage="preparing", **about)
        probe = self.cells[0].kind == "probe" and position.stage == "training"
        at = {"epoch": position.epoch, "step": position.step, "steps": position.steps}
        return Doing(stage="probe" if probe else position.stage, **at, **about)

    @property
    def active(self) -> list[str]:
        """Keys still to be finished that neither failed nor were cancelled."""
        if self._run is None:
            return [key for key in self.keys if key not in self.failed and key not in self._cancelled]
        alive = set(self._run.active) - self.failed.keys()
        return [key for key in self.keys if key in alive]

    @property
    def done(self) -> bool:
        """Nothing is left to train."""
        if self._untrained:
            return self._run is not None
        return self.epoch >= self._last or not self.active

    def advance(self, should_stop: Callable[[], bool]) -> None:
        """Train one epoch (an untrained cell: measure it) and save the state. An error fails the cells only.

        Raises:
            Interruption: ``should_stop`` said so; the state of the last whole epoch is kept.
            Superseded: another driver took over.
            MemoryError: the device's memory did not hold the batch; no cell counts as failed yet.
            Unreadable: one of several cells cannot be trained; none counts as failed yet.
            Exception: of a device that failed, see ``is_device_failure``; no cell counts as failed.
        """
        try:
            run = self._start()
            epoch, reports = self._next(run, should_stop)
        except Exception as error:
            if self._engine.is_interruption(error):
                raise Interruption from error
            if is_out_of_memory(error):
                raise MemoryError(str(error)) from error
            if is_device_failure(error):
                raise
            if failure_of(error) == "data" and self.width > 1 and self.epoch == 0:
                raise Unreadable from error
            self.fail(error)
            return
        at = now()
        for key, report in reports.items():
            if broken := _no_numbers(report):
                run.cancel(key)
                self._fail(key, "nan", f"its {broken} in epoch {epoch} is {report[broken]}")
                continue
            self.history.setdefault(key, []).append({"epoch": epoch, "at": at, **report})
        self._fail_diverged(run)
        self._save(run)

    def cancel(self, keys: frozenset[str]) -> None:
        """Leave cells out from the next epoch on, and out of the states saved from then on."""
        self._cancelled |= keys
        if self._run is not None:
            for key in self._cancelled.intersection(self._run.active):
                self._run.cancel(key)

    def finish(self) -> dict[str, dict[str, Any]]:
        """Commit the cells that reached the last epoch; returns their records. The in-flight state goes.

        Raises:
            Superseded: another driver took over.
            MemoryError: the device's memory did not hold the batch; no cell counts as failed yet.
        """
        if not self.active:
            return {}
        try:
            run = self._start()
            results = run.finish()
        except Exception as error:
            if is_out_of_memory(error):
                raise MemoryError(str(error)) from error
            if is_device_failure(error):
                raise
            self.fail(error)
            return {}
        self._check()
        self._fail_diverged(run)
        records = {}
        for cell in self.cells:
            if cell.key not in results:
                continue
            record, files = self._record(cell, results[cell.key])
            if not self._ledger.commit(cell.key, record, files):  # another worker finished it meanwhile
                record = self._ledger.get(cell.key) or record
            records[cell.key] = record
        self._ledger.drop_inflight(self.active)
        self._ledger.drop_inflight([cell.key for cell in self._built])
        return records

    def _start(self) -> BatchRun:
        if self._run is None:
            self._run = self._engine.start(self._built)
            if self._saved is not None:
                self._run.restore(self._saved.state)
                self._saved = None
            # What was built with these cells and is not wanted now: it failed, or was finished elsewhere.
            for key in set(self._run.active) - set(self.keys):
                self._run.cancel(key)
            self.cancel(self._cancelled)
        return self._run

    def _next(self, run: BatchRun, should_stop: Callable[[], bool]) -> EngineReport:
        if self._untrained:
            return run.initial()
        if self._epochs is None:
            self._epochs = run.epochs(should_stop)
        return next(self._epochs)

    def _save(self, run: BatchRun) -> None:
        started = time.perf_counter()
        self._check()
        if run.active and not self._untrained:
            state = InFlight(
                cells=tuple(cell.to_dict() for cell in self._built),
                active=tuple(run.active),
                epoch=run.epoch,
                history=self.history,
                state=run.state(),
                about=self._about,
                built=tuple(cell.key for cell in self._built),
            )
            self._ledger.save_inflight(state)
        self.save_seconds += time.perf_counter() - started

    def _record(self, cell: Cell, result: dict[str, Any]) -> tuple[dict[str, Any], dict[str, bytes]]:
        history = self.history[cell.key]
        metrics = {name: value for name, value in result["metrics"].items() if name != "history"}
        last = {name: value for name, value in history[-1].items() if name not in ("epoch", "at", "seconds")}
        record = {
            "cell": cell.to_dict(),
            "epochs": history[-1]["epoch"],
            "metrics": {**last, **metrics},
            "parameters": result["parameters"],
            "seconds": result["seconds"],
            "grouping": self.grouping.get(cell.key),
            "fused_with": self.others(cell.key),
            "revisions": revisions_of(cell),
            "provenance": {**provenance(), **result["versions"], "device": self._engine.device},
            **self._about,
        }
        return record, {**result["files"], HISTORY: encode({"epochs": history})}

    def fail(self, error: Exception) -> None:
        """Record every cell that is still active as failed with ``error``."""
        text = "".join(traceback.format_exception(error))
        for key in self.active:
            self._fail(key, failure_of(error), f"{type(error).__name__}: {error}", text)
        self._epochs = iter(())

    def _fail_diverged(self, run: BatchRun) -> None:
        """Record what the run found to have diverged since it was asked last."""
        for key in self.keys:
            if key in run.failed and key not in self.failed:
                self._fail(key, "nan", run.failed[key])

    def _fail(self, key: str, kind: Failure, error: str, trace: str = "") -> None:
        self.failed[key] = (kind, error)
        about = {"epoch": self.epoch, "fused_with": self.others(key), **self._about}
        self._ledger.record_failure(key, error, kind=kind, traceback=trace, **about)

    def others(self, key: str) -> list[str]:
        """Keys of the cells that it was built of beside one."""
        return [other.key for other in self._built if other.key != key]

    def _check(self) -> None:
        if not self._is_valid():
            raise Superseded


def _no_numbers(report: dict[str, Any]) -> str | None:
    """The first metric of a report that is infinite or none; None if all are finite.

    A metric that is None is no failure: a protocol without validation images measures nothing.
    """
    return next((n for n, v in report.items() if isinstance(v, float) and not math.isfinite(v)), None)
