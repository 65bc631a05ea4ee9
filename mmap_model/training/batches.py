"""The training batches of R replicates and T tasks, epoch by epoch.

Legend: R replicates, T tasks, B images per task and step.

An epoch is as long as the largest task: its images // B steps, at least one; what is left over is dropped, or
makes one more batch with images of the next pass (`Recipe.last_batch`). Or it has its share of a number of
steps that the recipe gives.
Smaller tasks start over, reshuffled, until the epoch ends. Order and augmentation are keyed by (task, train
seed, epoch, pass through the task, image): they do not depend on what else is trained in the same batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmap_model.backbone import Backbone
from mmap_model.configuration import Recipe
from mmap_model.data.bank import MEMORY_LIMIT, Indices
from mmap_model.data.dataset import Dataset
from mmap_model.data.draws import Draw
from mmap_model.data.streams import permutation, stream
from mmap_model.data.transfer import to_device
from mmap_model.out_of_memory import is_out_of_memory
from mmap_model.training.feeding import AugmentationNoise, BankFeed, CropFeed, Feed, PackedFeed


@dataclass(frozen=True)
class EpochLength:
    """How much of its images one epoch of a cell takes.

    Attributes:
        steps: at least one.
        batch_size: images per task and step: ``recipe.batch_size``, or all images of the largest task if they
            are fewer.
    """

    steps: int
    batch_size: int

    @classmethod
    def of(cls, draws: Sequence[Draw], recipe: Recipe) -> EpochLength:
        """Of one cell with these draws, by task; the recipe is that for its split."""
        return cls(*recipe.epoch_of(max(len(drawn.train) for drawn in draws)))


class TrainingBatches:
    """Augmented pixels and labels, step by step.

    Args:
        dataset: where the images are.
        draws: by replicate and task; of one `EpochLength`, or a replicate would not get what it gets alone.
        train_seeds: by replicate.
        recipe: batch size, and whether to augment.
        backbone: gives the size, device and precision of the pixels.

    Attributes:
        steps: of one epoch.
        batch_size: B.
        views: augmented views of each image that there are in all (``recipe.views``); None: always new ones.
    """

    def __init__(
        self,
        dataset: Dataset,
        draws: Sequence[Sequence[Draw]],
        train_seeds: Sequence[int],
        recipe: Recipe,
        backbone: Backbone,
    ) -> None:
        lengths = {EpochLength.of(replicate, recipe) for replicate in draws}
        assert len(lengths) == 1, f"fused replicates have epochs of one length, not {lengths}"
        length = lengths.pop()
        self.steps, self.batch_size = length.steps, length.batch_size
        self._names = [task.name for task in dataset.tasks]
        self._seeds = train_seeds
        self._augmentation = dataset.augmentation if recipe.augment else None
        self.views = recipe.views if recipe.augment else None
        self._device = backbone.device
        wanted = [[d.train for d in replicate] for replicate in draws]
        self._feed = self._make_feed(dataset, wanted, recipe, backbone)
        self._rows = [[self._feed.rows(t, d.train) for t, d in enumerate(replicate)] for replicate in draws]
        labels = [dataset.labels(name) for name in self._names]
        self._labels = [[labels[t][d.train] for t, d in enumerate(replicate)] for replicate in draws]

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Pixels [R, T, B, 3, H, W] in [0, 255] and labels [R, T, B] of every step."""
        shape = (len(self._rows), len(self._names), self.steps * self.batch_size)
        rows, labels = np.empty(shape, np.int64), np.empty(shape, np.int64)
        noise = np.empty((*shape, self._augmentation.noise)) if self._augmentation else None
        for r, seed in enumerate(self._seeds):
            for t, name in enumerate(self._names):
                order, drawn = self._stream_of(name, len(self._rows[r][t]), seed, epoch)
                rows[r, t], labels[r, t] = self._rows[r][t][order], self._labels[r][t][order]
                if noise is not None and drawn is not None:
                    noise[r, t] = drawn
        all_labels = to_device(torch.from_numpy(labels), self._device)
        parts = [slice(s * self.batch_size, (s + 1) * self.batch_size) for s in range(self.steps)]
        taken = self._feed.stream(
            [rows[:, :, part].reshape(-1) for part in parts],
            None if noise is None else [noise[:, :, part].reshape(-1, noise.shape[-1]) for part in parts],
        )
        for part, pixels in zip(parts, taken, strict=True):
            yield pixels.view(*shape[:2], self.batch_size, *pixels.shape[1:]), all_labels[:, :, part]

    @property
    def augments(self) -> bool:
        """Whether views of one image differ."""
        return self._augmentation is not None

    def labelled(self) -> list[list[Tensor]]:
        """Labels [n] of all images, by replicate and task."""
        return [[to_device(torch.from_numpy(own), self._device) for own in r] for r in self._labels]

    def view(self, number: int) -> Iterator[tuple[int, int, Tensor]]:
        """Replicate, task, and pixels [B or fewer, 3, H, W] of one view of all images, in the labels' order.

        Without augmentation every view is that of the evaluation.
        """
        for r, seed in enumerate(self._seeds):
            for t, name in enumerate(self._names):
                rows = self._rows[r][t]
                noise = self._noise_of_view(name, len(rows), seed, number) if self._augmentation else None
                parts = [slice(s, s + self.batch_size) for s in range(0, len(rows), self.batch_size)]
                drawn = None if noise is None else [noise[part] for part in parts]
                for pixels in self._feed.stream([rows[part] for part in parts], drawn):
                    yield r, t, pixels

    def order(self, replicate: int, task: int, epoch: int) -> tuple[Indices, Indices]:
        """Places among a task's images for a whole epoch, and the view of each (0 where views are new)."""
        count, name, seed = len(self._rows[replicate][task]), self._names[task], self._seeds[replicate]
        wanted = self.steps * self.batch_size
        places, views = [], []
        for number in range(-(-wanted // count)):
            places.append(permutation(count, "order", name, seed, epoch, number))
            views.append(self._view_of(name, count, seed, epoch, number)[places[-1]])
        return np.concatenate(places)[:wanted], np.concatenate(views)[:wanted]

    def _view_of(self, task: str, count: int, seed: int, epoch: int, number: int) -> Indices:
        """Which view each of a task's images shows in one pass."""
        if self.views is None:
            return np.zeros(count, np.int64)
        return stream("view", task, seed, epoch, number).integers(self.views, size=count)

    def _noise_of_view(self, task: str, count: int, seed: int, view: int) -> AugmentationNoise:
        assert self._augmentation is not None, "views differ by augmentation"
        return stream("augment view", task, seed, view).random((count, self._augmentation.noise))

    def _make_feed(
        self, dataset: Dataset, wanted: Sequence[Sequence[Indices]], recipe: Recipe, backbone: Backbone
    ) -> Feed:
        """A GPU keeps and crops images itself where they fit; else crops are cut on the CPU."""
        size, augmentation = backbone.image_size, self._augmentation
        members = [np.unique(np.concatenate(task)) for task in zip(*wanted, strict=True)]
        pixels = dataset.training_pixels(members, size) if augmentation is not None else None
        if pixels is not None and augmentation is not None:
            if backbone.device.type != "cpu" and pixels.bytes <= MEMORY_LIMIT:
                try:
                    return PackedFeed(pixels, augmentation, backbone)
                except Exception as error:
                    if not is_out_of_memory(error):
                        raise
            return CropFeed(pixels, augmentation, backbone)

        def fetch(task: int, indices: Indices) -> tuple[Tensor, Tensor]:
            name = self._names[task]
            if recipe.augment:
                return dataset.training_images(name, indices, size)
            views = dataset.views(name, indices, size, backbone.resize)
            return views, torch.full((len(indices), 2), size)

        return BankFeed(fetch, wanted, augmentation, backbone)

    def _stream_of(
        self, task: str, count: int, seed: int, epoch: int
    ) -> tuple[Indices, AugmentationNoise | None]:
        """Positions among the task's images for a whole epoch, and the noise of their augmentation."""
        wanted = self.steps * self.batch_size
        order, drawn = [], []
        for number in range(-(-wanted // count)):
            places = permutation(count, "order", task, seed, epoch, number)
            order.append(places)
            if self._augmentation and self.views is not None:
                shown = self._view_of(task, count, seed, epoch, number)
                every = np.stack([self._noise_of_view(task, count, seed, v) for v in range(self.views)])
                drawn.append(every[shown, np.arange(count)][places])
            elif self._augmentation:
                shape = (count, self._augmentation.noise)
                drawn.append(stream("augment", task, seed, epoch, number).random(shape)[places])
        noise = np.concatenate(drawn)[:wanted] if drawn else None
        return np.concatenate(order)[:wanted], noise
