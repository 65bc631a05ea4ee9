"""Few-shot draws: which images of a task train, validate and test.

One permutation per (dataset, task, class, draw seed) orders the images of a class. With k shots, the largest
k of the study K, and r = min(K, 4) images reserved for validation:

    [ train: first k | unused: up to K | validation: first min(k, 4) of r | test: the rest ]

so the shots nest (1 ⊂ 3 ⊂ 6 ⊂ 12) and every k is tested on the same images. A class of fewer than K + r + 1
images gives, in this order of need: one image to test, one to train, one to validate, then train up to K,
then validation up to r. A percentage p of a class of n images means k = max(1, round(p·n/100)).

The ``paper`` protocol trains on the first k (leaving at least one image) and tests on all the rest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from mmap_model.configuration import Split
from mmap_model.data.streams import permutation
from mmap_model.errors import DatasetError

VALIDATION_SHOTS = 4

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Draw:
    """Disjoint, sorted indices into the images of one task."""

    train: Indices
    validation: Indices
    test: Indices

    @property
    def labelled(self) -> int:
        """The label budget: images whose labels training or model selection sees."""
        return len(self.train) + len(self.validation)


def draw(
    labels: Indices,
    *,
    dataset: str,
    task: str,
    classes: Sequence[str],
    split: Split,
    draw_seed: int,
    protocol: Literal["search", "paper"] = "search",
    largest_shots: int | None = None,
) -> Draw:
    """Draw from one task; independent of the other tasks and of the order of tasks and classes.

    Args:
        labels: of all images of the task, indices into ``classes``.
        dataset, task, classes: names; with ``draw_seed`` they key the permutations.
        split: how much is labelled.
        protocol: ``search`` (with validation) or ``paper`` (without).
        largest_shots: K, the largest k of the study; None means this split's own.

    Raises:
        DatasetError: ``largest_shots`` is below the split's shots, or a class has no image.
    """
    if largest_shots is not None and split.shots is not None and largest_shots < split.shots:
        raise DatasetError(
            f"largest_shots={largest_shots} is below the split's {split.shots} shots",
            where="largest_shots",
            fix=f"use {split.shots} or more",
        )
    parts: tuple[list[Indices], list[Indices], list[Indices]] = ([], [], [])
    by_class = np.argsort(labels, kind="stable")
    bounds = np.searchsorted(labels[by_class], np.arange(len(classes) + 1))
    for label, name in enumerate(classes):
        members = by_class[bounds[label] : bounds[label + 1]]
        if not len(members):
            raise DatasetError(
                f"class {name!r} of task {task!r} has no image", fix="add images or drop the class"
            )
        ordered = members[permutation(len(members), "draw", dataset, task, name, draw_seed)]
        shots = split.shots if split.shots is not None else _share(split.percent, len(members))
        for part, chosen in zip(parts, _cut(ordered, shots, largest_shots, protocol), strict=True):
            part.append(chosen)
    return Draw(*(np.sort(np.concatenate(part)).astype(np.int64) for part in parts))


def training_size(
    images_per_class: Sequence[int],
    split: Split,
    *,
    protocol: Literal["search", "paper"] = "search",
    largest_shots: int | None = None,
) -> int:
    """How many training images a draw from classes of these sizes has; the seed does not matter."""
    sizes = (
        (n, split.shots if split.shots is not None else _share(split.percent, n)) for n in images_per_class
    )
    return sum(len(_cut(np.arange(n), shots, largest_shots, protocol)[0]) for n, shots in sizes)


def _cut(
    ordered: Indices, shots: int, largest_shots: int | None, protocol: str
) -> tuple[Indices, Indices, Indices]:
    count = len(ordered)
    if protocol == "paper":
        train = min(shots, count - 1)
        return ordered[:train], ordered[:0], ordered[train:]
    largest = max(shots, largest_shots or 0)
    one_validates = 1 if count >= 3 else 0
    trainable = min(largest, count - 1 - one_validates)
    reserved = min(largest, VALIDATION_SHOTS, count - 1 - trainable)
    validation = min(shots, VALIDATION_SHOTS, reserved)
    return (
        ordered[: min(shots, trainable)],
        ordered[trainable : trainable + validation],
        ordered[trainable + reserved :],
    )


def _share(percent: float | None, count: int) -> int:
    assert percent is not None
    return max(1, math.floor(percent * count / 100 + 0.5))
