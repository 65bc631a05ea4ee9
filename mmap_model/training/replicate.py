"""The cells of one batch: what they share, and what happens to each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mmap_model.cells import Cell
from mmap_model.configuration import Seeds, has_validation
from mmap_model.data.dataset import Dataset
from mmap_model.data.draws import Draw, draw_task, is_test_given
from mmap_model.errors import DatasetError
from mmap_model.methods import Problem

PHASES = ("train", "evaluate", "data")


@dataclass
class Replicate:
    """One cell in a running batch.

    Attributes:
        draws: its images, by task.
        history: its epoch reports so far.
        seconds: its share of the batch's time, by phase.
        error: why it failed, or None.
    """

    cell: Cell
    key: str
    draws: list[Draw]
    history: list[dict[str, Any]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    error: str | None = None
    cancelled: bool = False

    @property
    def active(self) -> bool:
        """Neither failed nor cancelled."""
        return self.error is None and not self.cancelled

    def record(self) -> dict[str, Any]:
        """What continuing needs, JSON-ready."""
        return {name: getattr(self, name) for name in ("key", "history", "seconds", "error", "cancelled")}

    def restore(self, record: dict[str, Any]) -> None:
        """Take over what `record` gave."""
        assert record["key"] == self.key, "the state is of another batch"
        for name in ("history", "seconds", "error", "cancelled"):
            setattr(self, name, record[name])


def make_replicates(cells: Sequence[Cell], dataset: Dataset) -> list[Replicate]:
    """Replicates of cells that differ in seeds and partition only.

    Raises:
        DatasetError: a task has no validation image under the ``search`` protocol.
    """
    assert cells, "a batch has at least one cell"
    assert len({_shared(cell) for cell in cells}) == 1, "fused cells differ in seeds and partition only"
    keys = [cell.key for cell in cells]
    assert len(set(keys)) == len(keys), "a cell occurs once in a batch"
    return [Replicate(cell, key, draw_tasks(cell, dataset)) for cell, key in zip(cells, keys, strict=True)]


def problem_of(
    cells: Sequence[Cell], dataset: Dataset, draws: Sequence[Sequence[Draw]] | None = None
) -> Problem:
    """What the model of a batch of cells is built for; with its images, where ``draws`` are given."""
    sizes = {tuple(len(drawn.train) for drawn in own) for own in draws or ()}
    return Problem(
        classes=[task.classes for task in dataset.tasks],
        template=cells[0].configuration.recipe.template,
        partitions=[cell.configuration.partition for cell in cells],
        train_seeds=[cell.seeds.train for cell in cells],
        templates=cells[0].configuration.recipe.templates_of([task.name for task in dataset.tasks]),
        # Replicates of lists that differ in length have no common number, and methods that need it are alone.
        images=sizes.pop() if len(sizes) == 1 else None,
    )


def draw_tasks(cell: Cell, dataset: Dataset) -> list[Draw]:
    """The images of a cell, by task."""
    assert (
        cell.protocol == "paper"
        or cell.test_images == "drawn"
        or is_test_given(dataset, cell.split, cell.seeds.draw)
    ), "test images of the cell's dataset are drawn, which its key does not say"
    draws = [
        draw_task(
            dataset,
            task.name,
            split=cell.split,
            draw_seed=cell.seeds.draw,
            protocol=cell.protocol,
            largest_shots=cell.largest_shots,
            largest_percent=cell.largest_percent,
        )
        for task in dataset.tasks
    ]
    for task, drawn in zip(dataset.tasks, draws, strict=True):
        if not len(drawn.train) or (has_validation(cell.protocol) and not len(drawn.validation)):
            raise DatasetError(
                f"task {task.name!r} has too few images to train on and to validate with",
                where="dataset",
                fix="give some class of it three images or more",
            )
    return draws


def _shared(cell: Cell) -> Cell:
    seedless = replace(cell, seeds=Seeds.both(0))
    return replace(seedless, configuration=replace(cell.configuration, partition=None))


class Stopwatch:
    """Wall-clock seconds by phase, since the last `take`."""

    def __init__(self) -> None:
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._last = time.perf_counter()

    def start(self) -> None:
        """What follows belongs to the next `lap`."""
        self._last = time.perf_counter()

    def lap(self, phase: str) -> float:
        """Count the time since `start` or the last lap as ``phase``; returns it."""
        now = time.perf_counter()
        passed, self._last = now - self._last, now
        self._seconds[phase] += passed
        return passed

    def charge(self, phase: str, seconds: float) -> None:
        """Count what did not pass now."""
        self._seconds[phase] += seconds

    def take(self) -> dict[str, float]:
        """Seconds so far; starts again from zero."""
        taken, self._seconds = self._seconds, dict.fromkeys(PHASES, 0.0)
        return taken
