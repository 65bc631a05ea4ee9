"""What the frozen image tower makes of the labelled images: for methods that compute something of them, and
for trainings that never run the tower again.

Legend: R replicates, T tasks, B images per replicate, task and step, V views, n labelled images, E embedding.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from mmap_model.data.transfer import to_device
from mmap_model.methods.model import TunedModel
from mmap_model.training.batches import TrainingBatches
from mmap_model.training.embedding_memo import KeptEmbeddings, Shelf
from mmap_model.training.step import TrainingStep


class DrawnSupport:
    """The labelled images of a batch of cells; a ``methods.support.Support``.

    Views are embedded once, when they are first asked for, each replicate and task by itself: what else is in
    the batch changes no bit.

    Args:
        model: with ``constant_images``.
        batches: of its cells.
        prepare: pixels in [0, 255] to normalised ones.
        autocast: makes the context of a forward pass.
        shelf: where views are kept for other cells, and found; None: nowhere.
    """

    def __init__(
        self,
        model: TunedModel,
        batches: TrainingBatches,
        prepare: Callable[[Tensor], Tensor],
        autocast: Callable[[], AbstractContextManager[object]],
        shelf: Shelf | None = None,
    ) -> None:
        assert model.constant_images, "only a tower that training leaves alone has features to keep"
        self._model, self._batches = model, batches
        self._prepare, self._autocast, self._shelf = prepare, autocast, shelf
        self._views: list[list[list[Tensor]]] = []

    def labels(self) -> Sequence[Sequence[Tensor]]:
        return self._batches.labelled()

    def embeddings(self, views: int) -> Sequence[Sequence[Tensor]]:
        wanted = views if self._batches.augments else 1
        while len(self._views) < wanted:
            self._views.append(self._view(len(self._views)))
        return [
            [torch.stack(own) for own in zip(*(view[r] for view in self._views[:wanted]), strict=True)]
            for r in range(len(self._views[0]))
        ]

    def _view(self, number: int) -> list[list[Tensor]]:
        """Embeddings [n, E] of one view, by replicate and task."""
        if self._shelf is None:
            return self._embed(number)
        tasks, part = self._model.tasks, ("view", number)
        if (kept := self._shelf.find(part)) is not None:
            return [[*kept.tensors[r * tasks : (r + 1) * tasks]] for r in range(self._model.replicates)]
        began = time.perf_counter()
        found = self._embed(number)
        seconds = {"train": time.perf_counter() - began}
        self._shelf.keep(part, KeptEmbeddings([own for replicate in found for own in replicate], seconds))
        return found

    @torch.no_grad()
    def _embed(self, view: int) -> list[list[Tensor]]:
        parts: dict[tuple[int, int], list[Tensor]] = {}
        for r, t, pixels in self._batches.view(view):
            with self._autocast():
                own = self._model.image_embeddings(self._prepare(pixels)[None, None])[0, 0]
            parts.setdefault((r, t), []).append(own)
        replicates, tasks = self._model.replicates, self._model.tasks
        return [[torch.cat(parts[r, t]) for t in range(tasks)] for r in range(replicates)]


class EmbeddedBatches:
    """Embeddings in place of pixels, of a recipe with new views in every epoch.

    Args:
        batches: of the pixels.
        step: that the embeddings are for, and that makes them.
        shelf: where epochs are kept, and found, by the number of images that memory holds at a time.
        like: normalised pixels of a step, whatever they show.
    """

    def __init__(self, batches: TrainingBatches, step: TrainingStep, shelf: Shelf, like: Tensor) -> None:
        self.steps, self.batch_size = batches.steps, batches.batch_size
        self._batches, self._step, self._shelf, self._like = batches, step, shelf, like

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Embeddings [R, T, B, E] and labels [R, T, B] of every step."""
        at_a_time = self._step.plan(self._like)
        if (kept := self._shelf.find((epoch, at_a_time))) is not None:
            # Copies: a model may work in place.
            steps = zip(*(tensor.split(self.batch_size, 2) for tensor in kept.tensors), strict=True)
            yield from ((embeddings.clone(), labels.clone()) for embeddings, labels in steps)
            return
        whole: list[Tensor] = []
        seconds, watch = {"data": 0.0, "train": 0.0}, self._shelf.watch
        for number, (pixels, labels) in enumerate(self._batches.epoch(epoch)):
            seconds["data"] += watch.lap("data")
            embeddings = self._step.embed(pixels)
            seconds["train"] += watch.lap("train")
            if number == 0:
                whole = self._room(embeddings, labels)
            for tensor, own in zip(whole, (embeddings, labels), strict=False):
                tensor[:, :, number * self.batch_size : (number + 1) * self.batch_size] = own
            yield embeddings, labels
        if whole and self._step.images == at_a_time:
            self._shelf.keep((epoch, at_a_time), KeptEmbeddings(whole, seconds))

    def _room(self, *first: Tensor) -> list[Tensor]:
        """Where a whole epoch goes, of the tensors of its first step; nothing where it would not be kept."""
        if not self._shelf.has_room(self.steps * sum(own.nbytes for own in first)):
            return []
        places = self.steps * self.batch_size
        return [own.new_empty((*own.shape[:2], places, *own.shape[3:])) for own in first]


class KeptBatches:
    """Embeddings in place of pixels, of a recipe with a fixed number of views.

    Args:
        batches: that say which image is shown when, and in which view.
        support: of the same cells.
    """

    def __init__(self, batches: TrainingBatches, support: DrawnSupport) -> None:
        self.steps, self.batch_size = batches.steps, batches.batch_size
        self._batches = batches
        self._embeddings = support.embeddings(batches.views or 1)
        self._labels = support.labels()

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Embeddings [R, T, B, E] and labels [R, T, B] of every step."""
        features, labels = [], []
        for r, by_task in enumerate(self._embeddings):
            for t, own in enumerate(by_task):
                places, views = (
                    to_device(torch.from_numpy(part), own.device) for part in self._batches.order(r, t, epoch)
                )
                features.append(own[views, places])
                labels.append(self._labels[r][t][places])
        shape = (len(self._embeddings), len(self._embeddings[0]))
        by_image = torch.stack(features).unflatten(0, shape)
        of_images = torch.stack(labels).unflatten(0, shape)
        yield from zip(by_image.split(self.batch_size, 2), of_images.split(self.batch_size, 2), strict=True)
