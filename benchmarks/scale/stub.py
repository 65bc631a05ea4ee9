"""Pretended training that takes a set time and no work. Jobs, records and the ledger are the real ones.

Workers import it as ``stub:make``; ``STUB_EPOCH_S`` holds the seconds of an epoch of a trial.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "integration"))

from stand_in import Engine, Interrupted, Run, accuracy

from mmap_model.cells import Cell
from orchestrator.execution.executor import Executor

TASKS = ("clipart", "painting", "photo", "sketch")
METRICS = ("accuracy", "nll", "ece", "macro_f1", "train_loss")
EPOCH_S = "STUB_EPOCH_S"


def make(dataset: dict[str, Any], backbone: dict[str, Any], storage: str, **options: Any) -> Executor:
    """The factory that slots are told of."""
    return Executor(dataset, backbone, storage, engine=StubEngine(dataset, backbone))


class StubEngine(Engine):
    def start(self, cells: Sequence[Cell]) -> Run:
        return StubRun(cells)


class StubRun(Run):
    """One batch; its reports and files are as large as real ones."""

    def finish(self) -> dict[str, dict[str, Any]]:
        finished = super().finish()
        for told in finished.values():
            told["files"]["prompts.safetensors"] = b"p" * 1000
        return finished

    def _wait(self, should_stop: Callable[[], bool]) -> None:
        until = time.monotonic() + float(os.environ.get(EPOCH_S, "0"))
        while (left := until - time.monotonic()) > 0:
            if should_stop():
                raise Interrupted
            time.sleep(min(left, 0.25))

    def _report(self, key: str, epoch: int) -> dict[str, Any]:
        return report(key, epoch)

    def _log(self) -> None: ...


def report(key: str, epoch: int) -> dict[str, Any]:
    """What an epoch of a cell measures."""
    value = accuracy(key, epoch)
    return {
        **dict.fromkeys(METRICS, value),
        "lr": 0.01,
        "tasks": {task: dict.fromkeys(METRICS[:4], value) for task in TASKS},
        "seconds": {"train": 0.1, "evaluate": 0.05},
    }
