"""What a dataset is: a list of tasks, each with class names and labelled images.

Opening a dataset and reading its tasks, labels and manifest needs no torch; only reading images does.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from mmap_model.errors import DatasetError, nearest
from mmap_model.paths import expanded
from mmap_model.preprocessing import CLIP_RESIZE, Resize
from mmap_model.revisions import added_field

if TYPE_CHECKING:
    from torch import Tensor

    from mmap_model.configuration import Split
    from mmap_model.data.augment import Augmentation
    from mmap_model.data.pixels import TrainingPixels


@dataclass(frozen=True, kw_only=True)
class TableColumns:
    """Columns of a table of images.

    Attributes:
        image: encoded bytes, or a struct with a field ``bytes``.
        label: class names, or numbers that the table's metadata or ``class_names`` put names to.
        task: names of tasks.
        id: names of images, unique within a task and class; None: numbers in the table's order.
    """

    image: str = "image"
    label: str = "label"
    task: str = "task"
    id: str | None = None


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """Which dataset to open.

    Attributes:
        name: a registered dataset: ``symbols`` or ``symbols_groups``, or a layout of images on disk such as
            ``office_home`` or ``folder`` (``<root>/<domain>/<class>/<image>``); or a custom layout,
            ``file.py:MyLayout``.
        root: where its images are; ``symbols`` and ``symbols_groups`` render their own and take none.
        tasks: the tasks to use, in this order, or None for all of them in the dataset's order.
        classes: the classes to use, or None for all; names of folders or as in prompts, in any order.
        class_names: words for prompts instead of those made of a folder's name, by either name.
        test_source: ``pooled`` draws training, validation and test images from all images; ``official``
            tests on the published test list (or folder) and draws the rest from the published training part.
        lists: folder of fixed lists that replace the draws; see `mmap_model.data.lists`.
        excluded: file that names images to leave out, as ``data check --fix`` writes it; None: the one that
            lies with the images, if any.
        table: columns of a table.
        store: folder of prepared images; None: where ``data prepare`` puts them.
        links: what symbolic links among the images may lead to: ``anywhere``, or only ``inside`` the root.
        class_half: classes of each task: ``all``; ``base``, the first half by label, the larger one where
            their number is odd; or ``new``, the others. A study of ``base`` classes is scored on the ``new``
            ones by ``orchestrator transfer``.
    """

    name: str = "symbols"
    root: str | None = None
    tasks: tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None
    class_names: dict[str, str] | None = None
    test_source: Literal["pooled", "official"] = "pooled"
    lists: str | None = None
    excluded: str | None = None
    table: TableColumns = TableColumns()
    store: str | None = None
    links: Literal["anywhere", "inside"] = added_field("anywhere")
    class_half: Literal["all", "base", "new"] = added_field("all")


ClassHalf = Literal["base", "new"]


@dataclass(frozen=True)
class TaskInfo:
    """One task: a domain and its class names, as they appear in prompts; label c means ``classes[c]``."""

    name: str
    classes: tuple[str, ...]


@dataclass(frozen=True)
class DatasetSummary:
    """What planning needs to know: tasks, their class lists, images per class, and the manifest hash."""

    name: str
    tasks: tuple[TaskInfo, ...]
    images_per_class: tuple[tuple[int, ...], ...]
    manifest: str


@dataclass(frozen=True)
class OfficialSplit:
    """The published division of one task: disjoint, sorted indices that together are all of its images."""

    train: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]


@dataclass(frozen=True)
class FixedParts:
    """Sorted, disjoint indices that lists give instead of a draw; None where they leave a part open."""

    train: npt.NDArray[np.int64]
    validation: npt.NDArray[np.int64] | None = None
    test: npt.NDArray[np.int64] | None = None


class Dataset(ABC):
    """Tasks with labelled images. Indices are positions within one task, 0 to its number of images - 1.

    Attributes:
        name: the registered name; part of the key of every draw.
        tasks: the tasks, in order; class lists may differ between tasks.
        image_size: side of the square images that `images` returns by default.
    """

    name: str
    tasks: tuple[TaskInfo, ...]
    image_size: int

    @cached_property
    @abstractmethod
    def manifest(self) -> str:
        """Hash of the tasks, class lists and images (32 hexadecimal digits); equal data, equal hash."""

    @abstractmethod
    def labels(self, task: str) -> npt.NDArray[np.int64]:
        """Labels of all images of a task, indices into its class list."""

    @abstractmethod
    def sample_ids(self, task: str) -> Sequence[str]:
        """A stable name of every image of a task, unique within the task."""

    @abstractmethod
    def images(self, task: str, indices: npt.NDArray[np.int64], size: int | None = None) -> Tensor:
        """The evaluation view of CLIP: uint8 [n, 3, size, size], RGB; ``size`` defaults to ``image_size``."""

    def views(self, task: str, indices: npt.NDArray[np.int64], size: int, resize: Resize) -> Tensor:
        """The evaluation view of a backbone that resizes images in its own way, else as `images`.

        Raises:
            DatasetError: the dataset makes no such views.
        """
        if resize == CLIP_RESIZE:
            return self.images(task, indices, size)
        raise DatasetError(
            f"dataset {self.name!r} cannot resize images as the backbone wants them: {resize.mode}, "
            f"{resize.interpolation}",
            where="dataset.name",
            fix="override Dataset.views in it, or use a backbone with CLIP's own preprocessing",
        )

    def training_images(self, task: str, indices: npt.NDArray[np.int64], size: int) -> tuple[Tensor, Tensor]:
        """What augmentation crops from: uint8 [n, 3, S, S] and the extents int64 [n, 2] (height, width).

        S is the same for every call with the same ``size``; pixels outside an image's extent are padding. For
        small images; datasets of larger ones give `training_pixels` instead.
        """
        raise NotImplementedError(f"{type(self).__name__} gives neither training_images nor training_pixels")

    def training_pixels(self, wanted: Sequence[npt.NDArray[np.int64]], size: int) -> TrainingPixels | None:
        """The images ``wanted`` (sorted indices, by task) decoded once for all processes of this machine.

        None where `training_images` gives them as fast.
        """
        return None

    def has_images_of(self, side: int) -> bool:
        """Whether the longer side of any image is ``side`` pixels or more, where crops come from photographs.

        Not where `training_images` gives what is cropped.
        """
        return False

    def ready(self, size: int, resize: Resize = CLIP_RESIZE) -> bool:
        """Whether such evaluation views are read as they are, so that nobody needs to keep them."""
        return False

    @property
    @abstractmethod
    def augmentation(self) -> Augmentation:
        """The random crops and flips this dataset's images bear without losing their class."""

    def class_keys(self, task: str) -> tuple[str, ...]:
        """What draws are keyed by, aligned with the classes: other words in prompts draw the same images."""
        return self.task(task).classes

    def sizes(self, task: str) -> npt.NDArray[np.int64] | None:
        """Bytes of each encoded image, aligned with `sample_ids`; None where images are not files."""
        return None

    def encoded(self, task: str, indices: Sequence[int]) -> Iterable[bytes] | None:
        """What the images' pixels come from, to compare by; None where reading one is not cheap.

        A dataset may leave out images that its manifest already tells from others.
        """
        return None

    def originals(self, task: str, indices: Sequence[int]) -> Iterator[bytes] | None:
        """The encoded images one by one, as they came; None where images are not files."""
        return None

    def official(self, task: str) -> OfficialSplit | None:
        """The published division to be kept to, if there is one: drawn from its first part only."""
        return None

    def fixed(self, task: str, split: Split, draw_seed: int) -> FixedParts | None:
        """What stands in place of a draw, if anything does."""
        return None

    @cached_property
    def summary(self) -> DatasetSummary:
        """What planning needs to know."""
        counts = tuple(
            tuple(np.bincount(self.labels(t.name), minlength=len(t.classes)).tolist()) for t in self.tasks
        )
        return DatasetSummary(self.name, self.tasks, counts, self.manifest)

    def task(self, name: str) -> TaskInfo:
        """The task of that name. Raises DatasetError with the nearest known one."""
        for task in self.tasks:
            if task.name == name:
                return task
        raise DatasetError(
            f"dataset {self.name!r} has no task {name!r}", fix=nearest(name, [t.name for t in self.tasks])
        )


def default_cache_dir() -> Path:
    """``$MMAP_CACHE_DIR``, or ``mmap`` in the user's cache folder."""
    given = os.environ.get("MMAP_CACHE_DIR")
    if given:
        return expanded(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmap"


def choose_tasks(spec: DatasetSpec, known: Sequence[str]) -> tuple[str, ...]:
    """The tasks ``spec`` asks for, in its order. Raises DatasetError for unknown or repeated ones."""
    if spec.tasks is None:
        return tuple(known)
    if not spec.tasks:
        raise DatasetError("no task is named", where="dataset.tasks", fix="name tasks, or leave it out")
    for task in spec.tasks:
        if task not in known:
            raise DatasetError(
                f"{spec.name!r} has no task {task!r}", where="dataset.tasks", fix=nearest(task, known)
            )
    if len(set(spec.tasks)) < len(spec.tasks):
        raise DatasetError(
            f"{list(spec.tasks)} names a task twice", where="dataset.tasks", fix="name it once"
        )
    return tuple(spec.tasks)
