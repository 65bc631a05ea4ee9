"""An executor whose engine only pretends to train: everything else, records and resuming above all, is real.

Workers import it as ``stand_in:make``. It runs in other processes, so a folder that the variable ``STAND_IN``
names steers it: ``epoch_s`` holds the seconds of an epoch; while ``diverges`` exists training fails; the
first worker that finds ``other_data`` takes it away and has other data than the study; ``epochs.log`` gets
a line ``kind key epoch pid`` per cell and epoch.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mmap_model.cells import Cell, Configuration, Point
from mmap_model.configuration import Grouping, Partition, canonical_partition
from mmap_model.methods.mmap import MmapSettings
from orchestrator.execution.engine import ModelEngine
from orchestrator.execution.executor import Executor
from orchestrator.work.inputs import Inputs

FOLDER = Path(os.environ.get("STAND_IN", "."))


class Interrupted(Exception):
    """What pretended training raises when it is told to stop."""


def make(dataset: dict[str, Any], backbone: dict[str, Any], storage: str, **options: Any) -> Executor:
    """The factory that slots are told of."""
    return Executor(dataset, backbone, storage, engine=Engine(dataset, backbone), **options)


def accuracy(key: str, epoch: int) -> float:
    return int(hashlib.sha256(f"{key}{epoch}".encode()).hexdigest()[:6], 16) / 16**6


class Engine:
    """Trains nothing, slowly if wanted; its data and weights are those of the study."""

    device, tasks = "cpu", 4

    def __init__(self, dataset: dict[str, Any], backbone: dict[str, Any]) -> None:
        self._real = ModelEngine(dataset, backbone)

    @property
    def manifest(self) -> str:
        return self._real.manifest

    @property
    def fingerprint(self) -> str:
        return self._real.fingerprint

    @cached_property
    def inputs(self) -> Inputs:
        found = self._real.inputs
        with contextlib.suppress(FileNotFoundError):
            (FOLDER / "other_data").rename(FOLDER / f"other_data.{os.getpid()}")
            return replace(found, manifest="e" * 32)
        return found

    loads = None

    def load(self) -> None: ...

    def fusable(self, cells: Sequence[Cell]) -> Sequence[Sequence[Cell]]:
        return [cells]

    def start(self, cells: Sequence[Cell]) -> Run:
        return Run(cells)

    def is_interruption(self, error: Exception) -> bool:
        return isinstance(error, Interrupted)

    def fuses(self, point: Point) -> bool:
        return True

    def count(self, cell: Cell) -> int:
        return 10 * len(cell.configuration.partition or ())

    def probe(self, point: Point) -> Configuration:
        assert point.grouping is not None
        return Configuration(
            method="mmap",
            settings=MmapSettings(),
            recipe=point.grouping.probe.recipe,
            partition=((0, 1, 2, 3),),
        )

    def resolve(
        self, grouping: Grouping, gram: bytes | None, train_seed: int
    ) -> tuple[Partition, dict[str, Any]]:
        return canonical_partition([[0, 1], [2, 3]]), {"margin": 0.5}

    def score_test(
        self, cells: Sequence[Cell], files: Mapping[str, Mapping[str, bytes]], check: Callable[[], None]
    ) -> dict[str, dict[str, Any]]:
        check()
        return {
            cell.key: {"metrics": {"accuracy": accuracy(cell.key, 99), "tasks": {}}, "files": {}}
            for cell in cells
        }


class Run:
    """One batch in pretended training; its state is the number of epochs behind it."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._cells = {cell.key: cell for cell in cells}
        self._epochs = cells[0].configuration.recipe.epochs
        self._cancelled: set[str] = set()
        self.epoch = 0
        self.position = None
        self.failed: dict[str, str] = {}

    @property
    def active(self) -> tuple[str, ...]:
        return tuple(key for key in self._cells if key not in self._cancelled and key not in self.failed)

    def epochs(self, should_stop: Callable[[], bool]) -> Iterator[tuple[int, dict[str, dict[str, Any]]]]:
        while self.epoch < self._epochs and self.active:
            self._wait(should_stop)
            if (FOLDER / "diverges").exists():
                self.failed = dict.fromkeys(self.active, "training diverged")
                yield self.epoch + 1, {}
                return
            self.epoch += 1
            self._log()
            yield self.epoch, {key: self._report(key, self.epoch) for key in self.active}

    def _wait(self, should_stop: Callable[[], bool]) -> None:
        until = time.monotonic() + float((FOLDER / "epoch_s").read_text())
        while time.monotonic() < until:
            if should_stop():
                raise Interrupted
            time.sleep(0.01)

    def initial(self) -> tuple[int, dict[str, dict[str, Any]]]:
        return 0, {key: self._report(key, 0) for key in self.active}

    def state(self) -> bytes:
        return str(self.epoch).encode()

    def restore(self, state: bytes) -> None:
        self.epoch = int(state)

    def cancel(self, key: str) -> None:
        self._cancelled.add(key)

    def finish(self) -> dict[str, dict[str, Any]]:
        return {
            key: {
                "metrics": {"accuracy": accuracy(key, self.epoch)},
                "parameters": 10,
                "seconds": {"train": 0.1},
                "versions": {},
                "files": {
                    "prompts.safetensors": b"prompts",
                    **({"gram.safetensors": b"gram"} if self._cells[key].kind == "probe" else {}),
                },
            }
            for key in self.active
        }

    def _report(self, key: str, epoch: int) -> dict[str, Any]:
        return {
            "accuracy": accuracy(key, epoch),
            "tasks": {"clipart": {"accuracy": accuracy(key, epoch)}},
            "seconds": {"train": 0.1, "evaluate": 0.05},
            "lr": 0.1,
        }

    def _log(self) -> None:
        lines = [f"{self._cells[key].kind} {key} {self.epoch} {os.getpid()}\n" for key in self.active]
        with (FOLDER / "epochs.log").open("a") as file:
            file.write("".join(lines))
