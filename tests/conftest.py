"""Shared fixtures: tiny random CLIPs, built in milliseconds once open_clip is imported."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import pytest

from orchestrator.slots import environment

# Ray reads how it authenticates when it is first imported, which the collection of tests may do.
environment.prepare()

if TYPE_CHECKING:
    from mmap_model.backbone import Backbone
    from mmap_model.data import Dataset

UNEQUAL_CLASSES = (
    ("dog", "alarm_clock", "sea turtle", "cat", "power_outlet"),
    ("dog", "cat"),
    ("string_bean", "The_Eiffel_Tower", "teddy-bear"),
)
"""Three tasks with class lists of different lengths and names of one to four tokens."""


@pytest.fixture(scope="session")
def tiny_backbone() -> Backbone:
    """Random CLIP: text width 32, image width 48, 3 layers each, 16 patches; float32."""
    from mmap_model.backbone import random_backbone

    return random_backbone()


@pytest.fixture(scope="session")
def tiny_backbone_fp64() -> Backbone:
    """The same in float64, for comparisons to rounding error."""
    import torch

    from mmap_model.backbone import random_backbone

    return random_backbone(dtype=torch.float64)


@pytest.fixture(scope="session")
def unequal_classes() -> tuple[tuple[str, ...], ...]:
    """Class names of three tasks with unequal class lists."""
    return UNEQUAL_CLASSES


@pytest.fixture(scope="session")
def pattern_dataset() -> Callable[..., Dataset]:
    """Makes an in-memory dataset of 16-pixel images: ``pattern_dataset({task: (domain, images by class)})``.

    Tasks of one domain share its texture, classes of one name share a shape, every image has its own noise.
    """
    import hashlib

    import numpy as np
    import torch

    from mmap_model.data import Dataset, TaskInfo
    from mmap_model.data.augment import Augmentation

    side = 16

    def field(*key: object) -> np.ndarray:
        seed = int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "big")
        coarse = np.random.default_rng(seed).normal(size=(4, 4, 3))
        return np.kron(coarse, np.ones((side // 4, side // 4, 1)))

    class PatternDataset(Dataset):
        name = "pattern"
        image_size = side
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
                domain = field("domain", tasks[task.name][0])
                rows = [
                    128 + 40 * field("class", task.classes[label]) + 40 * domain + 25 * field(task.name, n)
                    for n, label in enumerate(self._labels[task.name])
                ]
                stacked = np.stack(rows).clip(0, 255).astype(np.uint8).transpose(0, 3, 1, 2)
                self._pixels[task.name] = torch.from_numpy(np.ascontiguousarray(stacked))

        def labels(self, task):
            return self._labels[task]

        def sample_ids(self, task):
            return [f"{task}/{n}" for n in range(len(self._labels[task]))]

        def images(self, task, indices, size=None):
            assert size in (None, side)
            self.asked[task].update(indices.tolist())
            return self._pixels[task][torch.from_numpy(indices)]

        def training_images(self, task, indices, size):
            return self.images(task, indices, size), torch.full((len(indices), 2), side)

        @property
        def augmentation(self):
            return Augmentation(scale=(0.5, 1.0))

    return PatternDataset
