"""Where images come from: a layout on disk or a table, listed without decoding anything. No torch here.

A layout names tasks, classes and images the same way wherever and however the data lies: *ids* have the form
``<task>/<class folder>/<image>`` and hold neither the root nor what a file system or an archive makes of
it. Draws and manifests are made of ids, so equal data give equal draws and equal cell keys.
"""

from __future__ import annotations

import io
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from mmap_model.data.dataset import Dataset, DatasetSpec, OfficialSplit, TaskInfo, register_dataset
from mmap_model.data.decoding import upright_size
from mmap_model.data.faults import KINDS, Fault
from mmap_model.errors import DatasetError, nearest
from mmap_model.plain import content_key

Indices = npt.NDArray[np.int64]


class Source(ABC):
    """Images as encoded bytes, with labels. Opening one lists, and decodes nothing.

    Attributes:
        name: the layout's registered name; part of the key of every draw.
        tasks: in order, with class names as they appear in prompts.
        faults: what listing found wrong and left out.
        published: how many images these tasks have as published, where that is known.
    """

    name: str
    tasks: tuple[TaskInfo, ...]
    faults: tuple[Fault, ...] = ()
    published: int | None = None

    @property
    def far(self) -> bool:
        """Whether reading one image may fetch many from another machine."""
        return False

    @property
    def aliases(self) -> Mapping[str, str]:
        """Tasks by the names that they have in any copy of the layout, each in the form of `loose`."""
        return {**_ALIASES.get(self.name, {}), **{loose(task.name): task.name for task in self.tasks}}

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

    def extents(self, task: str, indices: Indices) -> Indices:
        """Upright (height, width) of images, [n, 2], from their headers; zeros of what is no image."""
        with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
            found = list(pool.map(lambda index: self._extent(task, index), indices.tolist()))
        return np.array(found, np.int64).reshape(-1, 2)

    def _extent(self, task: str, index: int) -> tuple[int, int]:
        try:
            return upright_size(io.BytesIO(self.read(task, index)), self.location(task, index))
        except DatasetError:
            return 0, 0

    def evaluation(self, task: str, indices: Indices, side: int) -> npt.NDArray[np.uint8] | None:
        """Evaluation views uint8 [n, 3, side, side] that lie ready, or None where they have to be made."""
        return None

    def reading_order(self, task: str) -> Indices:
        """All indices of a task in the order in which reading them is cheapest."""
        return np.arange(len(self.ids(task)))

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
_ALIASES: dict[str, Mapping[str, str]] = {}


def register_source(
    name: str, opener: SourceOpener, aliases: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Add a layout under a name; `open_dataset` knows it from then on too.

    Args:
        name: of the layout.
        opener: lists it.
        aliases: other names of its tasks, in the form of `loose`.

    Raises:
        DatasetError: the name is taken.
    """
    register_dataset(name, _open_as_dataset)
    _REGISTRY[name] = opener
    _ALIASES[name] = aliases


def canonical(spec: DatasetSpec) -> DatasetSpec:
    """``spec`` with its tasks under the layout's own names."""
    known = _ALIASES.get(spec.name, {})
    tasks = spec.tasks and tuple(known.get(loose(task), task) for task in spec.tasks)
    return replace(spec, tasks=tasks)


def loose(name: str) -> str:
    """What names have in common that differ in case, spaces, ``_`` and ``-`` only."""
    return re.sub(r"[\W_]+", "", name).casefold()


def source_names() -> tuple[str, ...]:
    """All registered layouts, sorted."""
    return tuple(sorted(_REGISTRY))


def open_source(spec: DatasetSpec) -> Source:
    """List the images of ``spec``: its tasks and classes, without the excluded images.

    Raises:
        DatasetError: an unknown layout, or files that are not laid out as it says; names what is missing.
    """
    source = list_source(spec)
    errors = [fault for fault in source.faults if fault.severity == "error"]
    if errors:
        more = f" (and {len(errors) - 1} more such findings)" if len(errors) > 1 else ""
        raise DatasetError(
            f"{errors[0].where}: {errors[0].problem}{more}",
            where="dataset.root",
            fix=f"{KINDS[errors[0].kind].remedy}; `orchestrator data check` lists all that is wrong",
        )
    return source


def list_source(spec: DatasetSpec) -> Source:
    """As `open_source`, but what can be left out is left out and told in ``faults``.

    Raises:
        DatasetError: nothing can be listed.
    """
    from mmap_model.data.sources.selection import select

    if spec.name not in _REGISTRY:
        raise DatasetError(
            f"{spec.name!r} is no layout of images on disk",
            where="dataset.name",
            fix=nearest(spec.name, _REGISTRY),
        )
    spec = canonical(spec)
    return select(_REGISTRY[spec.name](spec), spec)


def _open_as_dataset(spec: DatasetSpec, cache_dir: Path) -> Dataset:
    from mmap_model.data.sourced import open_sourced

    return open_sourced(spec, cache_dir)
