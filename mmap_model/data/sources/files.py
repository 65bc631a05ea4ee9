"""Images that are files below one root: finding them, and the source made of what was found."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmap_model.data.dataset import DatasetSpec, OfficialSplit, TaskInfo
from mmap_model.data.decoding import upright_size
from mmap_model.data.faults import Fault
from mmap_model.data.sources.base import Indices, Source, loose
from mmap_model.errors import DatasetError
from mmap_model.paths import expanded, is_folder

EXTENSIONS = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""Of images, as far as no look at their content is needed when they are listed."""


@dataclass(frozen=True)
class FileTask:
    """One task as a layout lists it.

    Attributes:
        info: its name and class names.
        keys: class names that draws are keyed by.
        ids, labels, sizes: of its images, class by class; see `Source`.
        paths: of its images, relative to the root.
        official: the published division, if there is one.
    """

    info: TaskInfo
    keys: tuple[str, ...]
    ids: Sequence[str]
    labels: Indices
    sizes: Indices
    paths: Sequence[str]
    official: OfficialSplit | None = None


class FileSource(Source):
    """The files of one layout."""

    def __init__(
        self, name: str, root: Path, tasks: Sequence[FileTask], faults: Sequence[Fault] = ()
    ) -> None:
        self.name = name
        self.root = root
        self.tasks = tuple(task.info for task in tasks)
        self.faults = tuple(faults)
        self._tasks = {task.info.name: task for task in tasks}

    def class_keys(self, task: str) -> tuple[str, ...]:
        return self._tasks[task].keys

    def ids(self, task: str) -> Sequence[str]:
        return self._tasks[task].ids

    def labels(self, task: str) -> Indices:
        return self._tasks[task].labels

    def sizes(self, task: str) -> Indices:
        return self._tasks[task].sizes

    def official(self, task: str) -> OfficialSplit | None:
        return self._tasks[task].official

    def location(self, task: str, index: int) -> str:
        return str(self.path(task, index))

    def path(self, task: str, index: int) -> Path:
        return self.root / self._tasks[task].paths[index]

    def _extent(self, task: str, index: int) -> tuple[int, int]:
        path = self.path(task, index)
        try:
            with path.open("rb") as file:  # its header alone is read
                return upright_size(file, str(path))
        except (OSError, DatasetError):
            return 0, 0

    def read(self, task: str, index: int) -> bytes:
        path = self.path(task, index)
        try:
            return path.read_bytes()
        except OSError as error:
            raise DatasetError(
                f"{path} cannot be read: {error.strerror}", where="dataset.root", fix="put it back"
            ) from error


@dataclass(frozen=True)
class ImageFile:
    """One image file: its id's last part, its path relative to the root, and its bytes."""

    name: str
    path: str
    size: int


Found = ImageFile
"""The name that layouts written for earlier versions import."""


def file_task(
    info: TaskInfo, keys: tuple[str, ...], folders: Sequence[str], images: Sequence[Sequence[ImageFile]]
) -> FileTask:
    """A task from its images by class; ids are ``<task>/<folder>/<image>`` with ``folders`` as written."""
    found = [(folder, label, image) for label, folder in enumerate(folders) for image in images[label]]
    return FileTask(
        info=info,
        keys=keys,
        ids=[f"{info.name}/{folder}/{image.name}" for folder, _, image in found],
        labels=np.array([label for _, label, _ in found], np.int64),
        sizes=np.array([image.size for _, _, image in found], np.int64),
        paths=[image.path for _, _, image in found],
    )


def image_root(spec: DatasetSpec, shape: str) -> Path:
    """The folder of ``dataset.root``. ``shape`` shows what it should hold.

    Raises:
        DatasetError: it is not given, or is no folder.
    """
    fix = f"set dataset.root to the image folder{shape}"
    if spec.root is None:
        raise DatasetError("no root is given", where="dataset.root", fix=fix)
    root = expanded(spec.root)
    if not is_folder(root):
        raise DatasetError(f"{root} is not a folder", where="dataset.root", fix=fix)
    return root


def is_image(name: str) -> bool:
    """By its extension."""
    return os.path.splitext(name)[1].lower() in EXTENSIONS  # noqa: PTH122 (called for every file)


def readable(folder: str) -> str:
    """A folder's name as words: ``_`` reads as a space."""
    return folder.replace("_", " ")


def one_of(names: Sequence[str], aliases: Mapping[str, str]) -> dict[str, list[str]]:
    """Names by what they are an alias of; ``aliases`` are loose."""
    found: dict[str, list[str]] = {}
    for name in names:
        if (canonical := aliases.get(loose(name))) is not None:
            found.setdefault(canonical, []).append(name)
    return found
