"""Half of the classes of every task, seen as a dataset of its own: for base-to-new generalisation.

*Base* are the first ceil(C/2) classes of a task by label, *new* the others (Zhou et al., "Conditional Prompt
Learning for Vision-Language Models", CVPR 2022, section 4.1). Draws are keyed by class, so an image is drawn
alike in a half and in the whole: what trains in one tests nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mmap_model.configuration import Split
from mmap_model.data.dataset import ClassHalf, Dataset, FixedParts, OfficialSplit, TaskInfo
from mmap_model.data.pixels import TrainingPixels
from mmap_model.errors import DatasetError
from mmap_model.plain import content_key
from mmap_model.preprocessing import CLIP_RESIZE, Resize

if TYPE_CHECKING:
    from torch import Tensor

    from mmap_model.data.augment import Augmentation

Indices = npt.NDArray[np.int64]


def base_classes(count: int) -> int:
    """How many of ``count`` classes are base classes."""
    return math.ceil(count / 2)


class HalfOfClasses(Dataset):
    """The images of the base or of the new classes of a dataset.

    Args:
        whole: all of it.
        half: which classes.

    Raises:
        DatasetError: a task keeps fewer than two classes.
    """

    def __init__(self, whole: Dataset, half: ClassHalf) -> None:
        self._whole, self._half = whole, half
        self.name, self.image_size = whole.name, whole.image_size
        self._first: dict[str, int] = {}
        self._kept: dict[str, Indices] = {}
        tasks = []
        for task in whole.tasks:
            middle = base_classes(len(task.classes))
            first, end = (0, middle) if half == "base" else (middle, len(task.classes))
            if end - first < 2:
                raise DatasetError(
                    f"task {task.name!r} has {len(task.classes)} classes, "
                    f"so its {half} half has {end - first}",
                    where="dataset.class_half",
                    fix="use all, or leave the task out: halves need four classes or more",
                )
            labels = whole.labels(task.name)
            self._first[task.name] = first
            self._kept[task.name] = np.flatnonzero((labels >= first) & (labels < end))
            tasks.append(TaskInfo(task.name, task.classes[first:end]))
        self.tasks = tuple(tasks)

    @cached_property
    def manifest(self) -> str:
        return content_key({"whole": self._whole.manifest, "class_half": self._half})

    def labels(self, task: str) -> Indices:
        return self._whole.labels(task)[self._kept[task]] - self._first[task]

    def sample_ids(self, task: str) -> Sequence[str]:
        ids = self._whole.sample_ids(task)
        return [ids[index] for index in self._kept[task].tolist()]

    def images(self, task: str, indices: Indices, size: int | None = None) -> Tensor:
        return self._whole.images(task, self._kept[task][indices], size)

    def views(self, task: str, indices: Indices, size: int, resize: Resize) -> Tensor:
        return self._whole.views(task, self._kept[task][indices], size, resize)

    def training_images(self, task: str, indices: Indices, size: int) -> tuple[Tensor, Tensor]:
        return self._whole.training_images(task, self._kept[task][indices], size)

    def training_pixels(self, wanted: Sequence[Indices], size: int) -> TrainingPixels | None:
        inner = [self._kept[task.name][own] for task, own in zip(self.tasks, wanted, strict=True)]
        found = self._whole.training_pixels(inner, size)
        return None if found is None else _HalfPixels(found, [self._kept[task.name] for task in self.tasks])

    def has_images_of(self, side: int) -> bool:
        return self._whole.has_images_of(side)

    def ready(self, size: int, resize: Resize = CLIP_RESIZE) -> bool:
        return self._whole.ready(size, resize)

    @property
    def augmentation(self) -> Augmentation:
        return self._whole.augmentation

    def class_keys(self, task: str) -> tuple[str, ...]:
        first = self._first[task]
        return self._whole.class_keys(task)[first : first + len(self.task(task).classes)]

    def sizes(self, task: str) -> Indices | None:
        sizes = self._whole.sizes(task)
        return None if sizes is None else sizes[self._kept[task]]

    def encoded(self, task: str, indices: Sequence[int]) -> Iterable[bytes] | None:
        return self._whole.encoded(task, self._kept[task][list(indices)].tolist())

    def originals(self, task: str, indices: Sequence[int]) -> Iterator[bytes] | None:
        return self._whole.originals(task, self._kept[task][list(indices)].tolist())

    def official(self, task: str) -> OfficialSplit | None:
        whole = self._whole.official(task)
        if whole is None:
            return None
        return OfficialSplit(*(self._here(task, part) for part in (whole.train, whole.test)))

    def fixed(self, task: str, split: Split, draw_seed: int) -> FixedParts | None:
        whole = self._whole.fixed(task, split, draw_seed)
        if whole is None:
            return None
        parts = (whole.train, whole.validation, whole.test)
        train, validation, test = (None if part is None else self._here(task, part) for part in parts)
        assert train is not None, "lists name what trains"
        return FixedParts(train, validation, test)

    def _here(self, task: str, indices: Indices) -> Indices:
        """Indices of the whole, as those of this half; others are left out."""
        return np.flatnonzero(np.isin(self._kept[task], indices))


class _HalfPixels:
    """Training pixels of the whole, asked for by indices of a half."""

    def __init__(self, whole: TrainingPixels, kept: Sequence[Indices]) -> None:
        self._whole, self._kept = whole, kept

    def __len__(self) -> int:
        return len(self._whole)

    @property
    def bytes(self) -> int:
        return self._whole.bytes

    def rows(self, task: int, indices: Indices) -> Indices:
        return self._whole.rows(task, self._kept[task][indices])

    def extents(self, rows: Indices) -> Indices:
        return self._whole.extents(rows)

    def boxes(self, rows: Indices, boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return self._whole.boxes(rows, boxes)

    def images(self, rows: Indices) -> Iterator[npt.NDArray[np.uint8]]:
        return self._whole.images(rows)
