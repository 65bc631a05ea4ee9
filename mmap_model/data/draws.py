"""Few-shot draws: which images of a task train, validate and test.

Two orders decide over the images of a class. One, keyed by (dataset, task, class) alone, gives the *test
block*: it is the same for every seed, every k and every split of a study, so no image on which one replicate
is tested trains or validates another. The other, one per (dataset, task, class, draw seed), orders what is
left. With K, the most images that any split of the study takes of the class, and r = min(K, 4) of them
reserved for validation:

    test block: min(n // 2, n - K - r) of the n images of the class
    the rest:   [ train: first k | free: up to K | validation: first min(k, 4) of r | not used by this seed ]

so the shots nest (1 ⊂ 3 ⊂ 6 ⊂ 12) and every k is tested on the same images. A percentage p of a class of n
images means k = max(1, round(p·n/100)). Test blocks nest too: a study of larger K tests on the same images or
on fewer of them. Seeds draw from one finite pool, what the test block leaves; where a class is small (n near
K + r) their samples overlap much, and an interval over seeds says little of other samples.

A class of fewer than K + r + 1 images gives, in this order of need: one image to test, one to train, one to
validate, then train up to K, then validation up to r: of 1, 2 and 3 images (test, train, validation) are
1·0·0, 1·1·0, 1·1·1.

The ``paper`` protocol trains on the first k of a seed's order (leaving at least one image) and tests on all
the rest, as published. Its test images therefore differ by seed and k, and one seed's are training images of
another: nothing may be chosen by its numbers, and their spread over seeds is of training and of test samples.

The ``clap`` protocol trains and tests on the images that ``search`` does, and none validate: what is fixed
beforehand compares with what validation chose, on the same test images.

Where a dataset keeps to its published division, images are drawn from the training part in the same way,
without a test block of their own, and all of the test part is tested on. Fixed lists stand in place of a
draw; under ``search``, lists without validation images give r images of each class from what they leave for
testing, the same for every seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mmap_model.configuration import Protocol, Split, has_validation
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
    protocol: Protocol = "search",
    largest_shots: int | None = None,
    largest_percent: float | None = None,
) -> Draw:
    """The images of one task of a dataset: from its fixed lists, else drawn. Arguments as of `draw`.

    Raises:
        DatasetError: as `draw`, or lists that do not fit the images.
    """
    labels, keys = dataset.labels(task), dataset.class_keys(task)
    fixed = dataset.fixed(task, split, draw_seed)
    if fixed is not None:
        orders = [
            permutation(count, "listed validation", dataset.name, task, key)
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
        largest_percent=largest_percent,
        official=dataset.official(task),
    )


def is_test_given(dataset: Dataset, split: Split, draw_seed: int) -> bool:
    """Return whether the test images of all tasks are given from outside: published, or by complete lists.

    If not, the ``search`` protocol draws them, or draws validation images from what lists leave for testing.
    """
    for task in dataset.tasks:
        fixed = dataset.fixed(task.name, split, draw_seed)
        if fixed is None and dataset.official(task.name) is None:
            return False
        if fixed is not None and fixed.validation is None:
            return False
    return True


def draw(
    labels: Indices,
    *,
    dataset: str,
    task: str,
    classes: Sequence[str],
    split: Split,
    draw_seed: int,
    protocol: Protocol = "search",
    largest_shots: int | None = None,
    largest_percent: float | None = None,
    official: OfficialSplit | None = None,
) -> Draw:
    """Draw from one task; independent of the other tasks and of the order of tasks and classes.

    Args:
        labels: of all images of the task, indices into ``classes``.
        dataset, task, classes: names; they key the test blocks, and with ``draw_seed`` the permutations.
        split: how much is labelled.
        protocol: ``search`` (with validation), ``clap`` (the same without), or ``paper`` (no test block).
        largest_shots, largest_percent: the most that any split of the study takes, K being the larger of them
            in each class; None means no more than this split's own.
        official: draw from its training part only, and test on its test part.

    Raises:
        DatasetError: ``largest_shots`` or ``largest_percent`` is below the split's, or a class has no image.
    """
    _check_largest("largest_shots", largest_shots, split.shots, "shots")
    _check_largest("largest_percent", largest_percent, split.percent, "per cent")
    parts: tuple[list[Indices], list[Indices], list[Indices]] = ([], [], [])
    missing = np.setdiff1d(np.arange(len(classes)), labels)
    if len(missing):
        raise DatasetError(
            f"class {classes[missing[0]]!r} of task {task!r} has no image",
            fix="add images or drop the class",
        )
    pool = np.arange(len(labels)) if official is None else official.train
    for members, name in zip(_by_class(labels, pool, len(classes)), classes, strict=True):
        count = len(members)
        ordered = members[permutation(count, "draw", dataset, task, name, draw_seed)]
        shots = split.shots if split.shots is not None else _share(split.percent, count)
        if protocol == "paper":
            train = min(shots, count - (official is None))
            chosen = (ordered[:train], ordered[:0], ordered[train:])
        else:
            most = max(shots, largest_shots or 0, _share(largest_percent, count) if largest_percent else 0)
            sizes = _sizes(count, most, tested=official is None)
            test = members[permutation(count, "test", dataset, task, name)][: sizes.test]
            training, validating = _cut(ordered[~np.isin(ordered, test)], shots, sizes)
            chosen = (training, validating if has_validation(protocol) else ordered[:0], test)
        for part, images in zip(parts, chosen, strict=True):
            part.append(images)
    if official is not None:
        parts[2][:] = [official.test]
    return Draw(*(np.sort(np.concatenate(part)).astype(np.int64) for part in parts))


def part_sizes(
    count: int, shots: int, *, protocol: Protocol = "search", tested: bool = True
) -> tuple[int, int, int]:
    """How many images of a class of ``count`` train, validate and test at ``shots``, the most of a study.

    ``tested``: some of them test. None do where a published test part is tested on.
    """
    if protocol == "paper":
        train = min(shots, count - tested)
        return train, 0, count - train if tested else 0
    sizes = _sizes(count, shots, tested=tested)
    return sizes.trainable, sizes.reserved * has_validation(protocol), sizes.test


def _complete(fixed: FixedParts, labels: Indices, orders: Sequence[Indices], protocol: Protocol) -> Draw:
    """A draw from lists; ``orders`` are permutations of each class, to choose validation images by."""
    validation = fixed.validation if fixed.validation is not None else labels[:0]
    if protocol == "paper":
        validation = validation[:0]
    test = fixed.test
    if test is None:
        test = np.setdiff1d(np.arange(len(labels)), np.concatenate([fixed.train, validation]))
    if protocol != "paper" and fixed.validation is None:
        everything = _by_class(labels, np.arange(len(labels)), len(orders))
        found = []
        for label, (members, order) in enumerate(zip(everything, orders, strict=True)):
            left = members[order][np.isin(members[order], test)]
            reserved = left[: min(VALIDATION_SHOTS, max(0, len(left) - 1))]
            found.append(reserved[: int((labels[fixed.train] == label).sum())])
            test = np.setdiff1d(test, reserved)
        validation = np.sort(np.concatenate(found))
    return Draw(fixed.train, validation if has_validation(protocol) else labels[:0], test)


def _by_class(labels: Indices, pool: Indices, classes: int) -> list[Indices]:
    """The indices of ``pool`` by class, each in ascending order."""
    ordered = pool[np.argsort(labels[pool], kind="stable")]
    bounds = np.searchsorted(labels[ordered], np.arange(classes + 1))
    return [ordered[bounds[label] : bounds[label + 1]] for label in range(classes)]


@dataclass(frozen=True)
class _Sizes:
    """Of one class: images that test, that may train at the most shots, and that are reserved to validate."""

    test: int
    trainable: int
    reserved: int


def _sizes(count: int, most: int, *, tested: bool) -> _Sizes:
    """What a class of ``count`` images gives where the splits of a study take up to ``most`` of it."""
    kept = int(tested)
    one_validates = 1 if count >= 2 + kept else 0
    trainable = max(0, min(most, count - kept - one_validates))
    reserved = max(0, min(most, VALIDATION_SHOTS, count - kept - trainable))
    test = max(1, min(count // 2, count - trainable - reserved)) if tested else 0
    return _Sizes(test, trainable, reserved)


def _cut(pool: Indices, shots: int, sizes: _Sizes) -> tuple[Indices, Indices]:
    """Training and validation images of one class at ``shots``, from its images that do not test."""
    validation = min(shots, VALIDATION_SHOTS, sizes.reserved)
    return (
        pool[: min(shots, sizes.trainable)],
        pool[sizes.trainable : sizes.trainable + validation],
    )


def _check_largest(name: str, largest: float | None, own: float | None, unit: str) -> None:
    if largest is not None and own is not None and largest < own:
        raise DatasetError(
            f"{name}={largest:g} is below the split's {own:g} {unit}", where=name, fix=f"use {own:g} or more"
        )


def _share(percent: float | None, count: int) -> int:
    assert percent is not None
    return max(1, math.floor(percent * count / 100 + 0.5))
