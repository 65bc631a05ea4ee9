"""A dataset of 16-pixel images in memory, made of noise: for tests that train on something."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmap_model.data import Dataset, TaskInfo
from mmap_model.data.augment import Augmentation

SIDE = 16


class PatternDataset(Dataset):
    """Tasks of one domain share its texture, classes of one name a shape; every image has its own noise.

    Args:
        tasks: by task its domain and the number of images of each class.

    Attributes:
        asked: by task the indices of the images that were read so far.
    """

    name = "pattern"
    image_size = SIDE
    manifest = "0" * 32

    def __init__(self, tasks: Mapping[str, tuple[str, Mapping[str, int]]]) -> None:
        self.tasks = tuple(TaskInfo(name, tuple(classes)) for name, (_, classes) in tasks.items())
        self.asked: dict[str, set[int]] = {name: set() for name in tasks}
        self._labels = {
            name: np.repeat(np.arange(len(classes)), list(classes.values()))
            for name, (_, classes) in tasks.items()
        }
        self._pixels = {}
        for task in self.tasks:
            domain = _field("domain", tasks[task.name][0])
            rows = [
                128 + 40 * _field("class", task.classes[label]) + 40 * domain + 25 * _field(task.name, n)
                for n, label in enumerate(self._labels[task.name])
            ]
            stacked = np.stack(rows).clip(0, 255).astype(np.uint8).transpose(0, 3, 1, 2)
            self._pixels[task.name] = torch.from_numpy(np.ascontiguousarray(stacked))

    def labels(self, task: str) -> npt.NDArray[np.int64]:
        return self._labels[task]

    def sample_ids(self, task: str) -> Sequence[str]:
        return [f"{task}/{n}" for n in range(len(self._labels[task]))]

    def images(self, task: str, indices: npt.NDArray[np.int64], size: int | None = None) -> Tensor:
        assert size in (None, SIDE)
        self.asked[task].update(indices.tolist())
        return self._pixels[task][torch.from_numpy(indices)]

    def training_images(self, task: str, indices: npt.NDArray[np.int64], size: int) -> tuple[Tensor, Tensor]:
        return self.images(task, indices, size), torch.full((len(indices), 2), SIDE)

    @property
    def augmentation(self) -> Augmentation:
        return Augmentation(scale=(0.5, 1.0))


def _field(*key: Any) -> npt.NDArray[np.float64]:
    """A random field of 4 by 4 patches, [16, 16, 3], keyed by ``key``."""
    seed = int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "big")
    coarse = np.random.default_rng(seed).normal(size=(4, 4, 3))
    return coarse.repeat(SIDE // 4, axis=0).repeat(SIDE // 4, axis=1)
