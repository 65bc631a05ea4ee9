"""A source as a dataset: every image is read and decoded when it is asked for."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from mmap_model.data.dataset import Dataset, DatasetSpec
from mmap_model.data.decoding import centre_crop, fit, open_image
from mmap_model.data.sources.base import Source, open_source

if TYPE_CHECKING:
    from torch import Tensor

    from mmap_model.data.augment import Augmentation


def open_sourced(spec: DatasetSpec, cache_dir: Path) -> Dataset:
    """The dataset of a layout: from the store that ``spec`` names, else a prepared one, else the images."""
    from mmap_model.data.stored import find_store, open_store, stored_source

    if spec.store is not None:
        return SourceDataset(stored_source(open_store(spec.store, cache_dir), spec))
    source = open_source(spec)
    store = find_store(cache_dir, source, spec)
    return SourceDataset(source if store is None else stored_source(store, spec))


class SourceDataset(Dataset):
    """Images of a source; views that do not lie ready are decoded, on several threads, when asked for."""

    image_size = 224

    def __init__(self, source: Source) -> None:
        self.source = source
        self.name = source.name
        self.tasks = source.tasks

    @cached_property
    def manifest(self) -> str:
        return self.source.manifest

    def labels(self, task: str) -> npt.NDArray[np.int64]:
        return self.source.labels(self.task(task).name)

    def sample_ids(self, task: str) -> Sequence[str]:
        return self.source.ids(self.task(task).name)

    def images(self, task: str, indices: npt.NDArray[np.int64], size: int | None = None) -> Tensor:
        import torch

        side = size or self.image_size
        ready = self.source.evaluation(self.task(task).name, indices, side)
        if ready is not None:
            return torch.from_numpy(ready)
        return self._decode(task, indices, lambda image: (centre_crop(image, side), (side, side)), side)[0]

    def training_images(self, task: str, indices: npt.NDArray[np.int64], size: int) -> tuple[Tensor, Tensor]:
        side = 2 * size
        return self._decode(task, indices, lambda image: fit(image, side), side)

    @property
    def augmentation(self) -> Augmentation:
        """The lineage's: random resized crop of 8 to 100 % of the area, horizontal flip."""
        from mmap_model.data.augment import Augmentation

        return Augmentation()

    def _decode(
        self,
        task: str,
        indices: npt.NDArray[np.int64],
        view: Callable[[Image.Image], tuple[Image.Image, tuple[int, int]]],
        side: int,
    ) -> tuple[Tensor, Tensor]:
        import torch

        name = self.task(task).name
        canvas = torch.zeros(len(indices), 3, side, side, dtype=torch.uint8)
        extents = torch.zeros(len(indices), 2, dtype=torch.int64)

        def load(position: int) -> None:
            index = int(indices[position])
            encoded = io.BytesIO(self.source.read(name, index))
            image, (height, width) = view(open_image(encoded, self.source.location(name, index)))
            pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
            canvas[position, :, :height, :width] = pixels
            extents[position] = torch.tensor([height, width])

        # Pillow releases the GIL while it decodes and resizes.
        with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
            list(pool.map(load, range(len(indices))))
        return canvas, extents
