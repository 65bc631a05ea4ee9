"""What tells the images of a dataset from others, task by task, so that a difference can be named.

The manifest of a dataset that lies in files is made of names and sizes, because reading millions of images
takes hours. Other images of the same names and sizes (uncompressed formats) have the same manifest. So some
images of every task are read here too; all of them where that is quickly done. No torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from mmap_model.data.dataset import Dataset

READ_ALL = 32 * 2**20
"""Bytes of encoded images of a task up to which all of them are read."""

LIST_ALL = 200_000
"""Images of a task up to which their ids are hashed here; the manifest has them all."""

READ_SOME = 16
"""Images of a larger task that are read at most, evenly spaced in its order. Of very large ones fewer, so
that ``READ_ALL`` holds for them too."""


@dataclass(frozen=True, kw_only=True)
class TaskContent:
    """The images of one task.

    Attributes:
        classes: hash of the class names, in order.
        names: the class names; empty where only the hash was sent along.
        images: how many there are of each class.
        listed: hash of their ids, labels and sizes, as far as the dataset knows sizes; None for many images.
        pixels: hash of the bytes of those that were read; None where reading one is not cheap.
        read: how many were read.
    """

    classes: str
    images: tuple[int, ...]
    listed: str | None
    pixels: str | None = None
    read: int = 0
    names: tuple[str, ...] = ()


def task_contents(dataset: Dataset) -> dict[str, TaskContent]:
    """Describe the images of every task; see `TaskContent`."""
    return {task.name: _content(dataset, task.name) for task in dataset.tasks}


def _content(dataset: Dataset, task: str) -> TaskContent:
    classes, labels = dataset.task(task).classes, dataset.labels(task)
    sizes = dataset.sizes(task)
    found = dataset.encoded(task, chosen(len(labels), None if sizes is None else int(sizes.sum())))
    encoded = None if found is None else list(found)
    return TaskContent(
        classes=_digest(f"{name}\n".encode() for name in classes),
        images=tuple(np.bincount(labels, minlength=len(classes)).tolist()),
        listed=_listed(dataset.sample_ids(task), labels, sizes) if len(labels) <= LIST_ALL else None,
        pixels=None if encoded is None else _digest(_framed(encoded)),
        read=0 if encoded is None else len(encoded),
        names=classes,
    )


def _listed(ids: Sequence[str], labels: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64] | None) -> str:
    of_each: Iterable[object] = ("" for _ in ids) if sizes is None else sizes.tolist()
    lines = zip(ids, labels.tolist(), of_each, strict=True)
    return _digest(f"{name}\t{label}\t{size}\n".encode() for name, label, size in lines)


def chosen(count: int, total: int | None) -> list[int]:
    """Positions of the images to read of ``count`` that have ``total`` bytes together; None: nobody knows."""
    if total is not None and total <= READ_ALL:
        return list(range(count))
    few = READ_SOME if total is None else max(1, READ_ALL * count // total)  # of very large images
    few = min(few, READ_SOME, count)
    return [number * count // few for number in range(few)]


def _framed(parts: Iterable[bytes]) -> Iterable[bytes]:
    for part in parts:
        yield len(part).to_bytes(8, "big") + part


def _digest(parts: Iterable[bytes]) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()[:16]
