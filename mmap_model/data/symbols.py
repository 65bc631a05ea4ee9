"""The embedded benchmarks as datasets: rendered glyphs, 30 images of 32x32 for each class and task."""

from __future__ import annotations

import hashlib
import warnings
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mmap_model.data.dataset import Dataset, DatasetSpec, TaskInfo, choose_tasks
from mmap_model.data.registry import register_dataset
from mmap_model.data.store import ImageStore, TaskImages, open_or_write
from mmap_model.errors import DatasetError
from mmap_model.plain import content_key
from mmap_model.preprocessing import CLIP_RESIZE, Resize

if TYPE_CHECKING:
    from torch import Tensor

    from mmap_model.data.augment import Augmentation


class RenderedDataset(Dataset):
    """Rendered once (some 6 s), then memory-mapped from the cache folder.

    The manifest is the hash of the pixels at hand. A platform whose fonts or floating point render other
    pixels than the frozen ones gets another manifest and a warning: its cells never mix with others'.
    """

    image_size = 32

    def __init__(self, spec: DatasetSpec, cache_dir: Path) -> None:
        for field in fields(spec):
            value = getattr(spec, field.name)
            if field.name not in ("name", "tasks") and value != getattr(DatasetSpec(), field.name):
                raise DatasetError(
                    f"{self.name} renders its own images, {field.name}={value!r} has no use",
                    where=f"dataset.{field.name}",
                    fix="leave it out, or name a layout of images on disk",
                )
        known = self._classes()
        self.tasks = tuple(TaskInfo(name, known[name]) for name in choose_tasks(spec, tuple(known)))
        self._store: ImageStore = open_or_write(
            cache_dir / f"{self.name}-{_renderer_hash()}.arrow", self._stored
        )

    @abstractmethod
    def _classes(self) -> Mapping[str, tuple[str, ...]]:
        """Class names of every task."""

    @abstractmethod
    def _render(self) -> tuple[Mapping[str, TaskImages], bool]:
        """The images of every task, and whether they are the frozen ones."""

    @cached_property
    def manifest(self) -> str:
        hashes = self._store.metadata["sha256"]
        tasks = [{"name": t.name, "classes": t.classes, "images": hashes[t.name]} for t in self.tasks]
        return content_key({"dataset": self.name, "tasks": tasks})

    def labels(self, task: str) -> npt.NDArray[np.int64]:
        return self._store.tasks[self.task(task).name][1]

    def sample_ids(self, task: str) -> Sequence[str]:
        classes, seen = self.task(task).classes, [0] * len(self.task(task).classes)
        ids = []
        for label in self.labels(task).tolist():
            ids.append(f"{task}/{classes[label]}/{seen[label]:02d}")
            seen[label] += 1
        return ids

    def encoded(self, task: str, indices: Sequence[int]) -> list[bytes]:
        return [self._store.metadata["sha256"][self.task(task).name].encode()]  # of all pixels of the task

    def images(self, task: str, indices: npt.NDArray[np.int64], size: int | None = None) -> Tensor:
        return self.views(task, indices, size or self.image_size, CLIP_RESIZE)

    def views(self, task: str, indices: npt.NDArray[np.int64], size: int, resize: Resize) -> Tensor:
        """Glyphs are square, so the ways to make a square of them agree; the filter may differ."""
        import torch

        from mmap_model.data.augment import resize as resized

        pixels = self._store.tasks[self.task(task).name][0][indices]
        native = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
        return native if size == self.image_size else resized(native, size, resize.interpolation)

    def training_images(self, task: str, indices: npt.NDArray[np.int64], size: int) -> tuple[Tensor, Tensor]:
        import torch

        return self.images(task, indices), torch.full((len(indices), 2), self.image_size)

    @property
    def augmentation(self) -> Augmentation:
        """Mild crops and no flip: a small crop would remove the glyph, a flip make another of it."""
        from mmap_model.data.augment import Augmentation

        return Augmentation(scale=(0.6, 1.0), ratio=(0.9, 1 / 0.9), flip=False)

    def _stored(self) -> tuple[Mapping[str, TaskImages], dict[str, Any]]:
        tasks, frozen = self._render()
        if not frozen:
            warnings.warn(
                f"the {self.name} images rendered here differ from the frozen ones (other Pillow, font or "
                "processor): results are comparable among themselves only",
                stacklevel=2,
            )
        hashes = {name: hashlib.sha256(images.tobytes()).hexdigest() for name, (images, _) in tasks.items()}
        return tasks, {"sha256": hashes}


class SymbolsDataset(RenderedDataset):
    """Four domains of 65 classes, 30 images each."""

    name = "symbols"

    def _classes(self) -> Mapping[str, tuple[str, ...]]:
        from mmap_model.symbols import BENCHMARK_CLASSES, DOMAINS

        return dict.fromkeys(DOMAINS, BENCHMARK_CLASSES)

    def _render(self) -> tuple[Mapping[str, TaskImages], bool]:
        from mmap_model.symbols import DOMAINS, benchmark_images, frozen

        tasks = {domain: benchmark_images(domain) for domain in DOMAINS}
        together = hashlib.sha256(b"".join(images.tobytes() for images, _ in tasks.values())).hexdigest()
        return tasks, together == frozen()["benchmark_sha256"]


class SymbolsGroupsDataset(RenderedDataset):
    """Eight tasks of 32 classes in four groups that are known; see `mmap_model.symbols.groups`."""

    name = "symbols_groups"

    def _classes(self) -> Mapping[str, tuple[str, ...]]:
        from mmap_model.symbols import GROUPED_TASKS

        return {task.name: task.classes for task in GROUPED_TASKS}

    def _render(self) -> tuple[Mapping[str, TaskImages], bool]:
        from mmap_model.symbols import GROUPED_TASKS, frozen, grouped_images, groups_sha256

        tasks = {task.name: grouped_images(task) for task in GROUPED_TASKS}
        pixels = [images for images, _ in tasks.values()]
        return tasks, groups_sha256(pixels) == frozen()["groups_sha256"]


def _renderer_hash() -> str:
    """Of what the pixels depend on: the renderer's sources, its lists, the font, numpy and Pillow."""
    from mmap_model.symbols.glyphs import font_path

    folder = Path(__file__).parents[1] / "symbols"
    files = [*sorted(folder.glob("*.py")), folder / "glyphs.csv", folder / "groups.json", font_path()]
    digest = hashlib.sha256(f"{version('numpy')} {version('pillow')}".encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


register_dataset(SymbolsDataset.name, SymbolsDataset)
register_dataset(SymbolsGroupsDataset.name, SymbolsGroupsDataset)
