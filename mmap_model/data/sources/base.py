"""Where images come from: a layout on disk or a table, listed without decoding anything. No torch here.

A layout names tasks, classes and images the same way wherever and however the data lies: *ids* have the form
``<task>/<class folder>/<image>`` and hold neither the root nor what a file system or an archive makes of
it. Draws and manifests are made of ids, so equal data give equal draws and equal cell keys.
"""

from __future__ import annotations

import io
import os
import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mmap_model.data.dataset import OfficialSplit, TaskInfo
from mmap_model.data.decoding import upright_size
from mmap_model.data.faults import Fault
from mmap_model.errors import DatasetError
from mmap_model.plain import content_key

Indices = npt.NDArray[np.int64]

NO_ALIASES: Mapping[str, str] = {}


class Source(ABC):
    """Images as encoded bytes, with labels. Opening one lists, and decodes nothing.

    Attributes:
        name: the layout's registered name; part of the key of every draw.
        tasks: in order, with class names as they appear in prompts.
        faults: what listing found wrong and left out.
        published: how many images these tasks have as published, where that is known.
        aliases: names that tasks have in other copies of the layout, in the form of `loose`, to their own.
    """

    name: str
    tasks: tuple[TaskInfo, ...]
    faults: tuple[Fault, ...] = ()
    published: int | None = None
    aliases: Mapping[str, str] = NO_ALIASES

    @property
    def far(self) -> bool:
        """Whether reading one image may fetch many from another machine."""
        return False

    def task_called(self, name: str) -> str | None:
        """The task that has this name, in any case and spelling, in some copy of the layout; or None."""
        return self._task_names.get(loose(name))

    @cached_property
    def _task_names(self) -> Mapping[str, str]:
        return {**self.aliases, **{loose(task.name): task.name for task in self.tasks}}

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

    def path(self, task: str, index: int) -> Path | None:
        """The file of this machine that holds the image, or None."""
        return None

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


def loose(name: str) -> str:
    """What names have in common that differ in case, spaces, ``_`` and ``-`` only, or as systems write them.

    Other characters tell names apart: ``C`` and ``C++``, and vowel signs in many scripts.
    """
    return re.sub(r"[\s_-]+", "", unicodedata.normalize("NFC", name)).casefold()
