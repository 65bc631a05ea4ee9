"""Data and cells of the size that is measured, made here: noise images of Office-Home's shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmap_model.backbone import Backbone, random_backbone
from mmap_model.cells import Cell, Configuration, Point
from mmap_model.configuration import Grouping, Probe, Recipe, Seeds, Split
from mmap_model.data.augment import Augmentation
from mmap_model.data.dataset import Dataset, TaskInfo
from mmap_model.grouping import probe_configuration
from mmap_model.methods import get_method

VIT_B_16 = {
    "text_width": 512,
    "image_width": 768,
    "layers": 12,
    "text_heads": 8,
    "head_width": 64,
    "image_size": 224,
    "patch_size": 16,
    "embed_dim": 512,
}
TASKS = ("art", "clipart", "product", "real_world")


@dataclass(frozen=True)
class Size:
    """How large the measured things are.

    Attributes:
        classes, shots, epochs, seeds: of a trial.
        per_class: images of a class and task; those that are neither trained nor validated on are scored.
        tiny: a narrow CLIP instead of ViT-B/16.
    """

    classes: int = 65
    shots: int = 6
    epochs: int = 5
    seeds: int = 3
    per_class: int = 64
    tiny: bool = False

    @classmethod
    def of(cls, tiny: bool) -> Size:
        return cls(classes=5, shots=2, epochs=2, seeds=2, per_class=12, tiny=True) if tiny else cls()

    def backbone(self, device: str, dtype: torch.dtype = torch.float32) -> Backbone:
        """A random ViT-B/16 with QuickGELU, as the paper's model."""
        shape = {} if self.tiny else VIT_B_16
        return random_backbone(quick_gelu=True, device=device, dtype=dtype, **shape)


class MadeDataset(Dataset):
    """Four tasks of noise with a pattern per class, in memory; side and crops as of photographs."""

    name = "made"

    def __init__(self, size: Size, side: int) -> None:
        self.image_size = side
        self.tasks = tuple(TaskInfo(task, tuple(f"thing {n}" for n in range(size.classes))) for task in TASKS)
        self._labels = np.repeat(np.arange(size.classes), size.per_class)
        generator = torch.Generator().manual_seed(0)

        def half(count: int) -> Tensor:
            """Noise in [0, 128), so that two of it are an image."""
            return torch.randint(0, 128, (count, 3, side, side), generator=generator, dtype=torch.uint8)

        patterns = half(size.classes)
        self._images: dict[str, Tensor] = {}
        for task in TASKS:
            noise = half(size.per_class)
            self._images[task] = (patterns[:, None] + noise).flatten(0, 1)

    @cached_property
    def manifest(self) -> str:
        return "0" * 32

    def labels(self, task: str) -> npt.NDArray[np.int64]:
        return self._labels

    def sample_ids(self, task: str) -> Sequence[str]:
        return [f"{task}/{n}" for n in range(len(self._labels))]

    def images(self, task: str, indices: npt.NDArray[np.int64], size: int | None = None) -> Tensor:
        return self._images[task][torch.from_numpy(indices)]

    def training_images(self, task: str, indices: npt.NDArray[np.int64], size: int) -> tuple[Tensor, Tensor]:
        return self.images(task, indices), torch.full((len(indices), 2), self.image_size)

    @property
    def augmentation(self) -> Augmentation:
        return Augmentation(scale=(0.5, 1.0), whole_pixels=True)


SMALL: dict[str, dict[str, int]] = {
    "mmap": {"prompt_length": 2, "source_rows": 2, "source_cols": 8},
    "maple": {"prompt_length": 2, "depth": 3},
    "vpt": {"prompt_length": 2, "depth": 3},
    "joint": {"prompt_length": 2},
    "mlp": {"prompt_length": 2},
    "promptsrc": {"depth": 2},
}
"""Settings that suit the narrow CLIP, by method."""


def cells(
    size: Size,
    *,
    method: str = "mmap",
    precision: str = "fp32",
    batch: int = 16,
    kind: str = "train",
    seeds: int | None = None,
    lr: float = 0.0035,
) -> list[Cell]:
    """Cells that differ in their seed; grouped methods get the tasks in two pairs, a probe gets one group."""
    own = get_method(method)
    settings = own.Settings(**(SMALL.get(method, {}) if size.tiny else {}))
    recipe = Recipe(epochs=size.epochs, batch_size=batch, lr=lr)
    if kind == "probe":
        shape = Probe(same=True, snapshot_every=2)
        point = Point(method=method, settings=settings, recipe=recipe, grouping=Grouping(probe=shape))
        assert point.grouping is not None
        configuration = probe_configuration(point.grouping, point, tasks=len(TASKS))
    else:
        pairs = ((0, 1), (2, 3)) if own.grouped else None
        configuration = Configuration(method=method, settings=settings, recipe=recipe, partition=pairs)
    return [
        Cell(
            kind=kind,  # type: ignore[arg-type]
            configuration=configuration,
            split=Split(shots=size.shots),
            seeds=Seeds.both(seed),
            precision=precision,  # type: ignore[arg-type]
            dataset="0" * 32,
            backbone="b" * 32,
            snapshot_every=2 if kind == "probe" else None,
        )
        for seed in range(1, 1 + (seeds or size.seeds))
    ]
