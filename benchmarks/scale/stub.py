"""A workbench whose training takes a set time and no work. Jobs, records and the ledger are the real ones.

Workers import it as ``stub:make``; ``STUB_EPOCH_S`` holds the seconds of an epoch of a trial.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mmap_model.configuration import Cell, Configuration, Grouping, Partition, Point, canonical_partition
from mmap_model.methods.mmap import MmapSettings
from orchestrator.workbench import Workbench

TASKS = ("clipart", "painting", "photo", "sketch")
METRICS = ("accuracy", "nll", "ece", "macro_f1", "train_loss")
EPOCH_S = "STUB_EPOCH_S"


def make(dataset: dict[str, Any], backbone: dict[str, Any], storage: str, **options: Any) -> Workbench:
    """The factory that slots are told of."""
    return Workbench(dataset, backbone, storage, engine=Engine())


def accuracy(key: str, epoch: int) -> float:
    """Between 0 and 1, the same for the same cell and epoch."""
    return int(hashlib.sha256(f"{key}{epoch}".encode()).hexdigest()[:6], 16) / 16**6


class Interrupted(Exception):
    """What pretended training raises when it is told to stop."""


class Engine:
    """Trains nothing."""

    manifest, fingerprint, device, tasks = "d" * 32, "b" * 32, "cpu", len(TASKS)

    def load(self) -> None: ...

    def start(self, cells: Sequence[Cell]) -> Run:
        return Run(cells)

    def is_interruption(self, error: Exception) -> bool:
        return isinstance(error, Interrupted)

    def fuses(self, point: Point) -> bool:
        return True

    def count(self, configuration: Configuration) -> int:
        return 10 * len(configuration.partition or ())

    def probe(self, point: Point) -> Configuration:
        assert point.grouping is not None, "only grouped points have a probe"
        recipe = point.grouping.probe.recipe
        return Configuration(
            method="mmap", settings=MmapSettings(), recipe=recipe, partition=(tuple(range(len(TASKS))),)
        )

    def resolve(
        self, grouping: Grouping, gram: bytes | None, train_seed: int
    ) -> tuple[Partition, dict[str, Any]]:
        return canonical_partition([[0, 1], [2, 3]]), {"margin": 0.5}

    def score_test(
        self, cells: Sequence[Cell], files: Mapping[str, Mapping[str, bytes]], *check: Callable[[], None]
    ) -> dict[str, dict[str, Any]]:
        return {
            cell.key: {"metrics": {"accuracy": accuracy(cell.key, 99), "tasks": {}}, "files": {}}
            for cell in cells
        }


class Run:
    """One batch; its state is the number of epochs behind it, its reports are as large as real ones."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._cells = {cell.key: cell for cell in cells}
        self._epochs = cells[0].configuration.recipe.epochs
        self._cancelled: set[str] = set()
        self.epoch = 0
        self.failed: dict[str, str] = {}

    @property
    def active(self) -> tuple[str, ...]:
        return tuple(key for key in self._cells if key not in self._cancelled)

    def epochs(self, should_stop: Callable[[], bool]) -> Iterator[tuple[int, dict[str, dict[str, Any]]]]:
        while self.epoch < self._epochs and self.active:
            until = time.monotonic() + float(os.environ.get(EPOCH_S, "0"))
            while (left := until - time.monotonic()) > 0:
                if should_stop():
                    raise Interrupted
                time.sleep(min(left, 0.25))
            self.epoch += 1
            yield self.epoch, {key: report(key, self.epoch) for key in self.active}

    def initial(self) -> tuple[int, dict[str, dict[str, Any]]]:
        return 0, {key: report(key, 0) for key in self.active}

    def state(self) -> bytes:
        return str(self.epoch).encode()

    def restore(self, state: bytes) -> None:
        self.epoch = int(state)

    def cancel(self, key: str) -> None:
        self._cancelled.add(key)

    def finish(self) -> dict[str, dict[str, Any]]:
        gram = {"gram.safetensors": b"gram"}
        return {
            key: {
                "metrics": {"accuracy": accuracy(key, self.epoch)},
                "parameters": 10,
                "seconds": {"train": 0.1},
                "versions": {},
                "files": {"prompts.safetensors": b"p" * 1000, **(gram if cell.kind == "probe" else {})},
            }
            for key, cell in self._cells.items()
            if key in self.active
        }


def report(key: str, epoch: int) -> dict[str, Any]:
    """What an epoch of a cell measures."""
    value = accuracy(key, epoch)
    return {
        **dict.fromkeys(METRICS, value),
        "lr": 0.01,
        "tasks": {task: dict.fromkeys(METRICS[:4], value) for task in TASKS},
        "seconds": {"train": 0.1, "evaluate": 0.05},
    }
