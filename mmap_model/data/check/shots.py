"""Classes with fewer images than a study's shots, validation and test ask for."""

from __future__ import annotations

from collections.abc import Iterator
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


def scarce_classes(source: Source, shots: Shots) -> Iterator[Fault]:
    """Classes whose draw is smaller than asked, with what it comes to."""
    full = part_sizes(10**9, shots.largest, protocol=shots.protocol)
    for task in source.tasks:
        labels = source.labels(task.name)
        split = source.official(task.name) if shots.official else None
        pool = labels if split is None else labels[split.train]
        for name, count in zip(task.classes, np.bincount(pool, minlength=len(task.classes)), strict=True):
            train, validation, test = part_sizes(
                int(count), shots.largest, protocol=shots.protocol, tested=split is None
            )
            if (train, validation) != full[:2]:
                wanted = f"{full[0]} to train" + (f" and {full[1]} to validate" if full[1] else "")
                gets = f"{train} train" + (f", {validation} validate" if full[1] else "")
                gets += f", {test} test" if split is None else ""
                problem = f"class {name!r} has {count} images for {wanted}: {gets}"
                yield Fault("too_few", problem, f"{task.name}/{name}", task.name)
