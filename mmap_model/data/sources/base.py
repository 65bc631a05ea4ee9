"""Where images come from: a layout on disk or a table, listed without decoding anything. No torch here.

A layout names tasks, classes and images the same way wherever and however the data lies: *ids* have the form
``<task>/<class folder>/<image>`` and hold neither the root nor what a file system or an archive makes of
it. Draws and manifests are made of ids, so equal data give equal draws and equal cell keys.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mmap_model.configuration import content_key
from mmap_model.data.dataset import Dataset, DatasetSpec, TaskInfo, register_dataset
from mmap_model.errors import DatasetError, nearest

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class OfficialSplit:
    """The published division of one task: disjoint, sorted indices that together are all of its images."""

    train: Indices
    test: Indices


class Source(ABC):
    """Images as encoded bytes, with labels. Opening one lists, and decodes nothing.

    Attributes:
        name: the layout's registered name; part of the key of every draw.
        tasks: in order, with class names as they appear in prompts.
    """

    name: str
    tasks: tuple[TaskInfo, ...]

    @abstractmethod
    def class_keys(self, task: str) -> tuple[str, ...]:
        """What draws are keyed by: the class names before a study renames any. Aligned with the classes."""

    @abstractmethod
    def ids(self, task: str) -> Sequence[str]:
        """``<task>/<class folder>/<image>``, sorted class by class; unique within the task."""

    @abstractmethod
    def labels(self, task: str) -> Indices:
        """Indices into the task's classes, aligned with `ids`."""

    @abstractmethod
    def sizes(self, task: str) -> Indices:
        """Bytes of each encoded image, aligned with `ids`."""

    @abstractmethod
    def read(self, task: str, index: int) -> bytes:
        """The encoded image. Safe to call from several threads.

        Raises:
            DatasetError: it has gone or cannot be read; names it.
        """

    @abstractmethod
    def location(self, task: str, index: int) -> str:
        """Where a person finds the image: its path, or table and row."""

    def evaluation(self, task: str, indices: Indices, side: int) -> npt.NDArray[np.uint8] | None:
        """Evaluation views uint8 [n, 3, side, side] that lie ready, or None where they have to be made."""
        return None

    def official(self, task: str) -> OfficialSplit | None:
        """The published division, where the layout has lists of it."""
        return None

    @cached_property
    def manifest(self) -> str:
        """Hash of tasks, class names, ids and sizes, 32 hexadecimal digits.

        Not of pixels: reading millions of images takes hours. Labels are in it, because ids name the class.
        """
        tasks = [
            {
                "name": task.name,
                "classes": task.classes,
                "files": list(zip(self.ids(task.name), self.sizes(task.name).tolist(), strict=True)),
            }
            for task in self.tasks
        ]
        return content_key({"dataset": self.name, "tasks": tasks})


SourceOpener = Callable[[DatasetSpec], Source]
_REGISTRY: dict[str, SourceOpener] = {}


def register_source(name: str, opener: SourceOpener) -> None:
    """Add a layout under a name; `open_dataset` knows it from then on too.

    Raises:
        DatasetError: the name is taken.
    """
    register_dataset(name, _open_as_dataset)
    _REGISTRY[name] = opener


def source_names() -> tuple[str, ...]:
    """All registered layouts, sorted."""
    return tuple(sorted(_REGISTRY))


def open_source(spec: DatasetSpec) -> Source:
    """List the images of ``spec``.

    Raises:
        DatasetError: an unknown layout, or files that are not laid out as it says; names what is missing.
    """
    if spec.name not in _REGISTRY:
        raise DatasetError(
            f"{spec.name!r} is no layout of images on disk",
            where="dataset.name",
            fix=nearest(spec.name, _REGISTRY),
        )
    return _REGISTRY[spec.name](spec)


def _open_as_dataset(spec: DatasetSpec, cache_dir: Path) -> Dataset:
    from mmap_model.data.sourced import open_sourced

    return open_sourced(spec, cache_dir)
