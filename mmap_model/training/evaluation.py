"""Scoring images of several tasks and replicates at once.

Legend: R replicates, T tasks, B images per task and replicate of one batch, C classes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mmap_model.backbone import Backbone
from mmap_model.data.bank import MEMORY_LIMIT, ImageBank, Indices
from mmap_model.data.dataset import Dataset
from mmap_model.data.transfer import to_device
from mmap_model.forward.precision import full_precision
from mmap_model.methods.model import TunedModel
from mmap_model.out_of_memory import is_out_of_memory
from mmap_model.training.embedding_memo import KeptEmbeddings, Shelf
from mmap_model.training.memory import release
from mmap_model.training.metrics import TOP, TaskPredictions

IMAGES_PER_BATCH = 256
"""Of all replicates and tasks together."""

KEPT_BYTES = 256 << 20
"""Of constant image embeddings, at most, that one evaluation keeps on the device."""

logger = logging.getLogger(__name__)


class Evaluation:
    """The images of some draws' parts, ready to be scored again every epoch.

    Where training does not change what the image tower makes of them (``TunedModel.constant_images``), that
    is computed once, batch by batch as without keeping it, so every number stays the same to the last bit;
    what is beyond ``KEPT_BYTES`` is computed every time.

    Args:
        dataset: whose evaluation views are scored.
        indices: by replicate and task, the images; tasks and replicates may differ in size.
        backbone: gives the size and device of the images.
        shelf: where embeddings are kept for other cells, and found; None: nowhere.
    """

    def __init__(
        self,
        dataset: Dataset,
        indices: Sequence[Sequence[Indices]],
        backbone: Backbone,
        shelf: Shelf | None = None,
    ) -> None:
        names = [task.name for task in dataset.tasks]
        self.indices = indices
        self._labels_of_task = [dataset.labels(name) for name in names]

        def fetch(task: int, own: Indices) -> tuple[Tensor, Tensor]:
            return dataset.views(names[task], own, size, resize), torch.full((len(own), 2), size)

        size, resize, self._device = backbone.image_size, backbone.resize, backbone.device
        # What every process of the machine reads from the same pages needs no copy in each of them.
        limit = 0 if self._device.type == "cpu" and dataset.ready(size, resize) else MEMORY_LIMIT
        self._bank = ImageBank(fetch, indices, device=self._device, limit=limit)
        self._most = max(len(own) for replicate in indices for own in replicate)
        self._per_batch = IMAGES_PER_BATCH
        self._kept: list[tuple[Tensor, Tensor]] = []
        self._kept_of: TunedModel | None = None
        self._shelf = shelf

    def limit(self, images: int) -> bool:
        """Score at most ``images`` at a time, at least one of each replicate and task; False if it is so."""
        before, self._per_batch = self._step, min(images, self._per_batch)
        if self._step < before:
            self._kept = []
        return self._step < before

    def halve(self) -> bool:
        """Score half as many images at a time from here on; False if that is less than one of each."""
        return self.limit(self._step * len(self.indices) * len(self.indices[0]) // 2)

    @property
    def batches(self) -> int:
        """Batches of one evaluation, as far as memory lets them be as large as now."""
        return -(-self._most // self._step)

    @property
    def _step(self) -> int:
        """Images of each replicate and task in a batch."""
        of_each = self._per_batch // (len(self.indices) * len(self.indices[0]))
        return max(1, min(of_each, self._most))

    def run(
        self,
        model: TunedModel,
        prepare: Callable[[Tensor], Tensor],
        check: Callable[[], None] = lambda: None,
    ) -> list[list[TaskPredictions]]:
        """Predictions by replicate and task.

        Where memory runs out, it is tried again with half as many images at a time.

        Args:
            model: R replicates of T tasks.
            prepare: uint8 images to normalised pixels.
            check: called before every batch; may raise to end the evaluation.

        Raises:
            Exception: of a device or host whose memory does not hold one image of each replicate and task.
        """
        while True:
            try:
                return self._score(model, prepare, check)
            except Exception as error:
                if not is_out_of_memory(error) or not self.halve():
                    raise
                reason = str(error).partition("\n")[0]
            # Out of the handler: the error's frames hold what the failed attempt computed.
            if self._shelf is not None:
                self._shelf.memo.clear()
            release(self._device)
            logger.warning("Memory ran out (%s); scoring goes on with %s images", reason, self._per_batch)

    @torch.no_grad()
    def _score(
        self, model: TunedModel, prepare: Callable[[Tensor], Tensor], check: Callable[[], None]
    ) -> list[list[TaskPredictions]]:
        classes = model.class_features()
        # Results get their place before the first batch: what stays must not lie between what comes and goes,
        # or the process grows by a batch of pixels with every batch.
        found: tuple[Tensor, ...] = ()
        start = 0
        for features, labels in self._features(model, prepare, check):
            logits = model.compare(features, classes)
            with full_precision(logits):
                read = (*_read(logits, labels), ~finite_logits(model, logits))
            found = found or tuple(r.new_empty(*r.shape[:2], self._most, *r.shape[3:]) for r in read)
            for whole, part in zip(found, read, strict=True):
                whole[:, :, start : start + part.shape[2]] = part
            start += labels.shape[2]
        top, probabilities, nll, broken = (whole.cpu().numpy() for whole in found)
        return [
            [
                TaskPredictions(
                    self._labels(r, t),
                    top[r, t, : len(own)],
                    probabilities[r, t, : len(own)],
                    nll[r, t, : len(own)],
                    int(broken[r, t, : len(own)].sum()),
                )
                for t, own in enumerate(replicate)
            ]
            for r, replicate in enumerate(self.indices)
        ]

    def _labels(self, replicate: int, task: int, places: Indices | slice = slice(None)) -> Indices:
        """Of the images at these places among a replicate's own."""
        return self._labels_of_task[task][self.indices[replicate][task][places]]

    def _features(
        self, model: TunedModel, prepare: Callable[[Tensor], Tensor], check: Callable[[], None]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Image features [R, T, B, E] and labels [R, T, B], batch by batch."""
        if not model.constant_images:
            for images, labels in self._batches(check):
                yield model.image_features(prepare(images)), labels
            return
        if self._kept_of is not model:
            self._kept, self._kept_of = self._found(), model
        for embeddings, labels in self._kept:
            check()
            yield model.finish_images(embeddings), labels
        room = KEPT_BYTES - sum(embeddings.nbytes for embeddings, _ in self._kept)
        first, seconds, began = len(self._kept), 0.0, time.perf_counter()
        for images, labels in self._batches(check, start=first):
            embeddings = model.image_embeddings(prepare(images))
            room -= embeddings.nbytes
            if room >= 0:
                # Of what other cells find, a copy: a model may work in place.
                kept = embeddings if self._shelf is None else embeddings.clone()
                self._kept.append((kept, labels))
            seconds += time.perf_counter() - began
            yield model.finish_images(embeddings), labels
            began = time.perf_counter()
        if self._shelf is not None and first == 0 and room >= 0:
            tensors = [tensor for batch in self._kept for tensor in batch]
            self._shelf.keep(self._part, KeptEmbeddings(tensors, {"evaluate": seconds}))

    def _found(self) -> list[tuple[Tensor, Tensor]]:
        """Embeddings and labels by batch that an earlier cell kept; none of them in a list of none."""
        kept = None if self._shelf is None else self._shelf.find(self._part)
        if kept is None:
            return []
        return [(e.clone(), labels) for e, labels in zip(kept.tensors[::2], kept.tensors[1::2], strict=True)]

    @property
    def _part(self) -> tuple[object, ...]:
        """The scored images, in batches as they are."""
        return ("scored", self._step, *(own.tobytes() for replicate in self.indices for own in replicate))

    def _batches(self, check: Callable[[], None], start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """From batch ``start`` on, images [R, T, B, 3, H, W] and labels [R, T, B].

        Short tasks repeat their images.
        """
        replicates, tasks = len(self.indices), len(self.indices[0])
        assert all(len(own) for r in self.indices for own in r), "every task has images to score"
        step = self._step
        firsts = range(0, self._most, step)[start:]
        if not firsts:
            return

        # One batch after the other: nothing here grows with the number of images.
        def of_all(read: Callable[[int, int, Indices], Indices], first: int) -> Tensor:
            """[R, T, B] of what ``read`` says of replicate, task and places among its images."""
            places = np.arange(first, min(first + step, self._most))
            found = [
                read(r, t, places % len(own))
                for r, replicate in enumerate(self.indices)
                for t, own in enumerate(replicate)
            ]
            return torch.from_numpy(np.stack(found)).view(replicates, tasks, -1)

        def row(replicate: int, task: int, places: Indices) -> Indices:
            return self._bank.rows(task, self.indices[replicate][task][places])

        taken = self._bank.stream(of_all(row, first).flatten().numpy() for first in firsts)
        for first, (images, _) in zip(firsts, taken, strict=True):
            check()
            labels = to_device(of_all(self._labels, first), self._device)
            yield images.view(replicates, tasks, -1, *images.shape[1:]), labels


def finite_logits(model: TunedModel, logits: Tensor) -> Tensor:
    """Whether the logits [R, T, B, C] of an image are finite, all classes of its task: bool [R, T, B]."""
    return (torch.isfinite(logits) | ~model.class_mask[None, :, None, :]).all(-1)


def _read(logits: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
    """Best classes, their probabilities, and the NLL of the truth, of logits [R, T, B, C]."""
    log_probabilities = F.log_softmax(logits, dim=-1)
    best = log_probabilities.topk(min(TOP, logits.shape[-1]), dim=-1)
    nll = -log_probabilities.gather(-1, labels[..., None]).squeeze(-1)
    return best.indices.int(), best.values.exp(), nll
