"""A dataset from any ``<root>/<domain>/<class>/<image>`` tree: every domain is a task."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from mmap_model.configuration import content_key
from mmap_model.data.dataset import Dataset, DatasetSpec, TaskInfo, choose_tasks, register_dataset
from mmap_model.data.decoding import centre_crop, fit, open_image
from mmap_model.errors import DatasetError

if TYPE_CHECKING:
    from torch import Tensor

    from mmap_model.data.augment import Augmentation

EXTENSIONS = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


class FolderDataset(Dataset):
    """Domains and classes are the sorted folder names; ``_`` in a class name reads as a space.

    The manifest hashes relative paths and file sizes, not pixels: reading millions of images takes hours.
    """

    name = "folder"
    image_size = 224

    def __init__(self, spec: DatasetSpec, cache_dir: Path) -> None:
        if spec.root is None:
            raise DatasetError("no root is given", where="dataset.root", fix="set it to the image folder")
        self._root = Path(spec.root).expanduser()
        if not self._root.is_dir():
            raise DatasetError(
                f"{self._root} is not a folder", where="dataset.root", fix="set the image folder"
            )
        domains = _folders(self._root)
        if not domains:
            raise DatasetError(
                f"{self._root} holds no domain folders",
                where="dataset.root",
                fix="lay images out as <root>/<domain>/<class>/<image>",
            )
        self._files: dict[str, list[tuple[str, int]]] = {}
        self._labels: dict[str, npt.NDArray[np.int64]] = {}
        self.tasks = tuple(self._scan(domain) for domain in choose_tasks(spec, domains))

    @cached_property
    def manifest(self) -> str:
        tasks = [{"name": t.name, "classes": t.classes, "files": self._files[t.name]} for t in self.tasks]
        return content_key({"dataset": self.name, "tasks": tasks})

    def labels(self, task: str) -> npt.NDArray[np.int64]:
        return self._labels[self.task(task).name]

    def sample_ids(self, task: str) -> Sequence[str]:
        return [path for path, _ in self._files[self.task(task).name]]

    def images(self, task: str, indices: npt.NDArray[np.int64], size: int | None = None) -> Tensor:
        side = size or self.image_size
        return self._decode(task, indices, lambda image: (centre_crop(image, side), (side, side)), side)[0]

    def training_images(self, task: str, indices: npt.NDArray[np.int64], size: int) -> tuple[Tensor, Tensor]:
        side = 2 * size
        return self._decode(task, indices, lambda image: fit(image, side), side)

    @property
    def augmentation(self) -> Augmentation:
        """The lineage's: random resized crop of 8 to 100 % of the area, horizontal flip."""
        from mmap_model.data.augment import Augmentation

        return Augmentation()

    def _scan(self, domain: str) -> TaskInfo:
        folders = _folders(self._root / domain)
        classes = tuple(name.replace("_", " ") for name in folders)
        if len(classes) < 2:
            raise DatasetError(
                f"{self._root / domain} holds {len(classes)} class folders",
                where="dataset.root",
                fix="a task needs two classes or more: <root>/<domain>/<class>/<image>",
            )
        if len(set(classes)) < len(classes):
            raise DatasetError(
                f"two class folders of {self._root / domain} have the same name once _ reads as a space",
                where="dataset.root",
                fix="merge or rename them",
            )
        files: list[tuple[str, int]] = []
        labels: list[int] = []
        for label, folder in enumerate(folders):
            found = _images(self._root / domain / folder)
            if not found:
                raise DatasetError(
                    f"{self._root / domain / folder} holds no image",
                    where="dataset.root",
                    fix="add images (" + ", ".join(sorted(EXTENSIONS)) + ") or remove the folder",
                )
            files += [(f"{domain}/{folder}/{name}", size) for name, size in found]
            labels += [label] * len(found)
        self._files[domain] = files
        self._labels[domain] = np.array(labels, np.int64)
        return TaskInfo(domain, classes)

    def _decode(
        self,
        task: str,
        indices: npt.NDArray[np.int64],
        view: Callable[[Image.Image], tuple[Image.Image, tuple[int, int]]],
        side: int,
    ) -> tuple[Tensor, Tensor]:
        import torch

        files = self._files[self.task(task).name]
        canvas = torch.zeros(len(indices), 3, side, side, dtype=torch.uint8)
        extents = torch.zeros(len(indices), 2, dtype=torch.int64)

        def load(position: int) -> None:
            path = self._root / files[indices[position]][0]
            image, (height, width) = view(open_image(path, str(path)))
            pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
            canvas[position, :, :height, :width] = pixels
            extents[position] = torch.tensor([height, width])

        # Pillow releases the GIL while it decodes and resizes.
        with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
            list(pool.map(load, range(len(indices))))
        return canvas, extents


def _folders(path: Path) -> list[str]:
    with os.scandir(path) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def _images(path: Path) -> list[tuple[str, int]]:
    with os.scandir(path) as entries:
        return sorted(
            (e.name, e.stat().st_size)
            for e in entries
            if e.is_file() and not e.name.startswith(".") and Path(e.name).suffix.lower() in EXTENSIONS
        )


register_dataset("folder", FolderDataset)
