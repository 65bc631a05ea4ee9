"""A source as a dataset: every image is read and decoded when it is asked for."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mmap_model.configuration import Split
from mmap_model.data.dataset import Dataset, DatasetSpec, FixedParts, OfficialSplit
from mmap_model.data.decoding import evaluation_view, open_image
from mmap_model.data.extents import longest_side
from mmap_model.data.lists import FixedLists
from mmap_model.data.pixels import TrainingPixels
from mmap_model.data.prepared.pixels import training_pixels
from mmap_model.data.sources.base import Source
from mmap_model.data.sources.registry import get_layout, open_source
from mmap_model.data.stored import find_store, open_store, stored_source
from mmap_model.errors import DatasetError
from mmap_model.plain import content_key
from mmap_model.preprocessing import CLIP_RESIZE, Resize

if TYPE_CHECKING:
    from torch import Tensor

    from mmap_model.data.augment import Augmentation


VIEWS = 2
"""Rises when the same images come to other training or evaluation pixels: their cells are then others."""


def open_sourced(spec: DatasetSpec, cache_dir: Path) -> Dataset:
    """The dataset of a layout: from the store that ``spec`` names, else a prepared one, else the images."""
    layout = get_layout(spec.name)
    wanted = layout.canonical(spec)
    if spec.store is not None:
        store = open_store(spec.store, cache_dir)
        return SourceDataset(stored_source(store, wanted, layout.aliases), wanted, cache_dir)
    source = open_source(spec)
    found = find_store(cache_dir, source, wanted)
    if found is not None:
        source = stored_source(found, wanted, layout.aliases)
    return SourceDataset(source, wanted, cache_dir)


class ListedDataset(Dataset):
    """What a dataset knows from its source's listing: everything but pixels.

    Args:
        source: tasks, ids, labels and published division.
        spec: whether to keep to that division, or to fixed lists.

    Attributes:
        lists: the fixed lists, or None.

    Raises:
        DatasetError: the layout has no published division, or the lists do not fit it.
    """

    image_size = 224

    def __init__(self, source: Source, spec: DatasetSpec = DatasetSpec()) -> None:  # noqa: B008 (frozen)
        self.source = source
        self.name = source.name
        self.tasks = source.tasks
        self._test_source = spec.test_source
        self.lists = None if spec.lists is None else FixedLists(spec.lists, source)
        if spec.test_source == "official" and any(source.official(t.name) is None for t in self.tasks):
            raise DatasetError(
                f"{spec.name!r} has no published training and test lists",
                where="dataset.test_source",
                fix="use test_source: pooled",
            )

    @cached_property
    def manifest(self) -> str:
        lists = None if self.lists is None else self.lists.key
        parts = {"images": self.source.manifest, "views": VIEWS}
        return content_key({**parts, "test_source": self._test_source, "lists": lists})

    def labels(self, task: str) -> npt.NDArray[np.int64]:
        return self.source.labels(self.task(task).name)

    def sample_ids(self, task: str) -> Sequence[str]:
        return self.source.ids(self.task(task).name)

    def sizes(self, task: str) -> npt.NDArray[np.int64]:
        return self.source.sizes(self.task(task).name)

    def encoded(self, task: str, indices: Sequence[int]) -> Iterator[bytes] | None:
        return None if self.source.far else self._encoded(self.task(task).name, indices)

    def _encoded(self, task: str, indices: Sequence[int]) -> Iterator[bytes]:
        for index in indices:
            try:
                yield self.source.read(task, index)
            except DatasetError:  # `data check` tells of it, and training where it needs the image
                yield b""

    def originals(self, task: str, indices: Sequence[int]) -> Iterator[bytes]:
        return (self.source.read(self.task(task).name, index) for index in indices)

    def class_keys(self, task: str) -> tuple[str, ...]:
        return self.source.class_keys(self.task(task).name)

    def official(self, task: str) -> OfficialSplit | None:
        return self.source.official(self.task(task).name) if self._test_source == "official" else None

    def fixed(self, task: str, split: Split, draw_seed: int) -> FixedParts | None:
        return None if self.lists is None else self.lists.parts(self.task(task).name, split, draw_seed)

    @property
    def augmentation(self) -> Augmentation:
        """The lineage's: random resized crop of 8 to 100 % of the area, horizontal flip."""
        from mmap_model.data.augment import Augmentation

        return Augmentation(whole_pixels=True)


class SourceDataset(ListedDataset):
    """Images of a source; views that do not lie ready are decoded, on several threads, when asked for.

    Args:
        source, spec: as for `ListedDataset`.
        cache_dir: keeps decoded training images.
    """

    def __init__(self, source: Source, spec: DatasetSpec, cache_dir: Path) -> None:
        super().__init__(source, spec)
        self._cache_dir = cache_dir

    def images(self, task: str, indices: npt.NDArray[np.int64], size: int | None = None) -> Tensor:
        return self.views(task, indices, size or self.image_size, CLIP_RESIZE)

    def views(self, task: str, indices: npt.NDArray[np.int64], size: int, resize: Resize) -> Tensor:
        import torch

        # What lies ready was made as for CLIP, and serves no other backbone.
        known = self.task(task).name
        ready = self.source.evaluation(known, indices, size) if resize == CLIP_RESIZE else None
        if ready is not None:
            return torch.from_numpy(ready)
        return self._decode(task, indices, size, resize)

    def ready(self, size: int, resize: Resize = CLIP_RESIZE) -> bool:
        nothing = np.empty(0, np.int64)
        return resize == CLIP_RESIZE and all(
            self.source.evaluation(task.name, nothing, size) is not None for task in self.tasks
        )

    def training_pixels(self, wanted: Sequence[npt.NDArray[np.int64]], size: int) -> TrainingPixels:
        return training_pixels(self.source, wanted, size, self.augmentation, self._cache_dir)

    def has_images_of(self, side: int) -> bool:
        return longest_side(self.source, self._cache_dir, enough=side) >= side

    def _decode(self, task: str, indices: npt.NDArray[np.int64], side: int, resize: Resize) -> Tensor:
        import torch

        name = self.task(task).name
        views = torch.zeros(len(indices), 3, side, side, dtype=torch.uint8)

        def load(position: int) -> None:
            index = int(indices[position])
            encoded = io.BytesIO(self.source.read(name, index))
            image = open_image(encoded, self.source.location(name, index))
            view = np.array(evaluation_view(image, side, resize))
            views[position] = torch.from_numpy(view).permute(2, 0, 1)

        # Pillow releases the GIL while it decodes and resizes.
        with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
            list(pool.map(load, range(len(indices))))
        return views
