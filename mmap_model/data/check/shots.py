"""Tasks and classes with fewer images than a study's shots, validation and test ask for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mmap_model.configuration import Protocol
from mmap_model.data.draws import part_sizes
from mmap_model.data.faults import Fault
from mmap_model.data.sources.base import Source


@dataclass(frozen=True, kw_only=True)
class Shots:
    """What a study asks of every class.

    Attributes:
        largest: most shots of its splits.
        protocol: with validation images or without.
        official: draw from the published training part only.
    """

    largest: int
    protocol: Protocol = "search"
    official: bool = False


def nothing_to_test(task: str, counts: Sequence[int], shots: int) -> str | None:
    """Say why a study refuses a task that is drawn at ``shots``; None if it does not.

    Args:
        task: its name.
        counts: images of each class.
        shots: the most of the study.
    """
    largest = max(counts)
    if largest > shots:
        return None
    return f"{shots} shots leave nothing to test in task {task!r}: its largest class has {largest} images"


def scarce_classes(source: Source, shots: Shots) -> Iterator[Fault]:
    """Tasks that no study can be run on at these shots, and classes whose draw is smaller than asked."""
    full = part_sizes(10**9, shots.largest, protocol=shots.protocol)
    for task in source.tasks:
        labels = source.labels(task.name)
        split = source.official(task.name) if shots.official else None
        pool = labels if split is None else labels[split.train]
        counts = np.bincount(pool, minlength=len(task.classes)).tolist()
        if not shots.official and (problem := nothing_to_test(task.name, counts, shots.largest)) is not None:
            yield Fault("no_test", problem, task.name, task.name)
            continue
        for name, count in zip(task.classes, counts, strict=True):
            train, validation, test = part_sizes(
                count, shots.largest, protocol=shots.protocol, tested=split is None
            )
            if (train, validation) != full[:2]:
                wanted = f"{full[0]} to train" + (f" and {full[1]} to validate" if full[1] else "")
                gets = f"{train} train" + (f", {validation} validate" if full[1] else "")
                gets += f", {test} test" if split is None else ""
                problem = f"class {name!r} has {count} images for {wanted}: {gets}"
                yield Fault("too_few", problem, f"{task.name}/{name}", task.name)


def scarce(counts: Sequence[int], shots: Shots) -> int:
    """Return how many classes of a task have fewer images than asked; ``counts`` are their images."""
    full = part_sizes(10**9, shots.largest, protocol=shots.protocol)
    drawn = (part_sizes(count, shots.largest, protocol=shots.protocol) for count in counts)
    return sum(sizes[:2] != full[:2] for sizes in drawn)
