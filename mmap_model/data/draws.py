"""Few-shot draws: which images of a task train, validate and test.

One permutation per (dataset, task, class, draw seed) orders the images of a class. With k shots, the largest
k of the study K, and r = min(K, 4) images reserved for validation:

    [ train: first k | unused: up to K | validation: first min(k, 4) of r | test: the rest ]

so the shots nest (1 ⊂ 3 ⊂ 6 ⊂ 12) and every k is tested on the same images. A class of fewer than K + r + 1
images gives, in this order of need: one image to test, one to train, one to validate, then train up to K,
then validation up to r. A percentage p of a class of n images means k = max(1, round(p·n/100)).

The ``paper`` protocol trains on the first k (leaving at least one image) and tests on all the rest.

Where a dataset keeps to its published division, images are drawn from the training part in the same way, and
all of the test part is tested on. Fixed lists stand in place of a draw; under ``search``, lists without
validation images give r images of each class from what they leave for testing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from mmap_model.configuration import Split
from mmap_model.data.streams import permutation
from mmap_model.errors import DatasetError

if TYPE_CHECKING:
    from mmap_model.data.dataset import Dataset, FixedParts, OfficialSplit

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


def draw_task(
    dataset: Dataset,
    task: str,
    *,
    split: Split,
    draw_seed: int,
    protocol: Literal["search", "paper"] = "search",
    largest_shots: int | None = None,
) -> Draw:
    """The images of one task of a dataset: from its fixed lists, else drawn. Arguments as of `draw`.

    Raises:
        DatasetError: as `draw`, or lists that do not fit the images.
    """
    labels, keys = dataset.labels(task), dataset.class_keys(task)
    fixed = dataset.fixed(task, split, draw_seed)
    if fixed is not None:
        orders = [
            permutation(count, "draw", dataset.name, task, key, draw_seed)
            for key, count in zip(keys, np.bincount(labels, minlength=len(keys)).tolist(), strict=True)
        ]
        return _complete(fixed, labels, orders, protocol)
    return draw(
        labels,
        dataset=dataset.name,
        task=task,
        classes=keys,
        split=split,
        draw_seed=draw_seed,
        protocol=protocol,
        largest_shots=largest_shots,
        official=dataset.official(task),
    )


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
    official: OfficialSplit | None = None,
) -> Draw:
    """Draw from one task; independent of the other tasks and of the order of tasks and classes.

    Args:
        labels: of all images of the task, indices into ``classes``.
        dataset, task, classes: names; with ``draw_seed`` they key the permutations.
        split: how much is labelled.
        protocol: ``search`` (with validation) or ``paper`` (without).
        largest_shots: K, the largest k of the study; None means this split's own.
        official: draw from its training part only, and test on its test part.

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
    missing = np.setdiff1d(np.arange(len(classes)), labels)
    if len(missing):
        raise DatasetError(
            f"class {classes[missing[0]]!r} of task {task!r} has no image",
            fix="add images or drop the class",
        )
    pool = np.arange(len(labels)) if official is None else official.train
    for members, name in zip(_by_class(labels, pool, len(classes)), classes, strict=True):
        ordered = members[permutation(len(members), "draw", dataset, task, name, draw_seed)]
        shots = split.shots if split.shots is not None else _share(split.percent, len(members))
        kept = 1 if official is None else 0
        for part, chosen in zip(parts, _cut(ordered, shots, largest_shots, protocol, kept), strict=True):
            part.append(chosen)
    if official is not None:
        parts[2][:] = [official.test]
    return Draw(*(np.sort(np.concatenate(part)).astype(np.int64) for part in parts))


def part_sizes(
    count: int, shots: int, *, protocol: Literal["search", "paper"] = "search", kept: int = 1
) -> tuple[int, int, int]:
    """How many images of a class of ``count`` train, validate and test at ``shots``, the most of a study.

    ``kept`` images are left to test at least: none where a published test part is tested on.
    """
    train, validation, test = _cut(np.arange(min(count, 2**20)), shots, None, protocol, kept)
    return len(train), len(validation), len(test)


def _complete(
    fixed: FixedParts, labels: Indices, orders: Sequence[Indices], protocol: Literal["search", "paper"]
) -> Draw:
    """A draw from lists; ``orders`` are permutations of each class, to choose validation images by."""
    validation = fixed.validation if fixed.validation is not None else labels[:0]
    if protocol == "paper":
        validation = validation[:0]
    test = fixed.test
    if test is None:
        test = np.setdiff1d(np.arange(len(labels)), np.concatenate([fixed.train, validation]))
    if protocol == "search" and fixed.validation is None:
        everything = _by_class(labels, np.arange(len(labels)), len(orders))
        found = []
        for label, (members, order) in enumerate(zip(everything, orders, strict=True)):
            left = members[order][np.isin(members[order], test)]
            reserved = left[: min(VALIDATION_SHOTS, max(0, len(left) - 1))]
            found.append(reserved[: int((labels[fixed.train] == label).sum())])
            test = np.setdiff1d(test, reserved)
        validation = np.sort(np.concatenate(found))
    return Draw(fixed.train, validation, test)


def _by_class(labels: Indices, pool: Indices, classes: int) -> list[Indices]:
    """The indices of ``pool`` by class, each in ascending order."""
    ordered = pool[np.argsort(labels[pool], kind="stable")]
    bounds = np.searchsorted(labels[ordered], np.arange(classes + 1))
    return [ordered[bounds[label] : bounds[label + 1]] for label in range(classes)]


def _cut(
    ordered: Indices, shots: int, largest_shots: int | None, protocol: str, kept: int
) -> tuple[Indices, Indices, Indices]:
    """Training, validation and test images of one class, of which at least ``kept`` test."""
    count = len(ordered)
    if protocol == "paper":
        train = min(shots, count - kept)
        return ordered[:train], ordered[:0], ordered[train:]
    largest = max(shots, largest_shots or 0)
    one_validates = 1 if count >= 2 + kept else 0
    trainable = min(largest, count - kept - one_validates)
    reserved = min(largest, VALIDATION_SHOTS, count - kept - trainable)
    validation = min(shots, VALIDATION_SHOTS, reserved)
    return (
        ordered[: min(shots, trainable)],
        ordered[trainable : trainable + validation],
        ordered[trainable + reserved :],
    )


def _share(percent: float | None, count: int) -> int:
    assert percent is not None
    return max(1, math.floor(percent * count / 100 + 0.5))
