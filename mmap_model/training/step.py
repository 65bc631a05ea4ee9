"""One training step: losses, gradients, update; in parts where memory does not hold it at once.

Legend: R replicates, T tasks, B images per replicate, task and step, C classes, E embedding.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from mmap_model.forward.precision import full_precision
from mmap_model.methods.model import TunedModel
from mmap_model.methods.probed import Probed
from mmap_model.out_of_memory import is_out_of_memory
from mmap_model.training.memory import images_at_a_time, release
from mmap_model.training.optimiser import ReplicateSgd

Snapshot = Callable[[Probed, Sequence[Tensor]], None]
"""Takes gradients of what is generated for both towers; leaves those of the parameters in ``.grad``."""

logger = logging.getLogger(__name__)


class TrainingStep:
    """Steps of one model.

    Parts are images: the class prompts are encoded once, every part adds its share to the gradients of class
    features and prompts, and the text tower is differentiated at the end. The sums are those of the whole
    step in another order. Where memory runs out none the less, the step is tried again with half as many
    images, at one image with checkpoints; parameters have not moved by then.

    Args:
        model: R replicates of T tasks.
        sgd: of its parameters.
        prepare: pixels in [0, 255] to normalised ones.
        autocast: makes the context of a forward pass.

    Attributes:
        images: of each (replicate, task) computed at a time; 0 before the first step plans it.
        in_parts: memory does not hold a whole step.
    """

    def __init__(
        self,
        model: TunedModel,
        sgd: ReplicateSgd,
        prepare: Callable[[Tensor], Tensor],
        autocast: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self._model, self._sgd = model, sgd
        self._prepare, self._autocast = prepare, autocast
        self.images, self.in_parts = 0, False

    def take(
        self, pixels: Tensor, labels: Tensor, active: Tensor | None = None, snapshot: Snapshot | None = None
    ) -> Tensor:
        """Mean cross-entropy [R, T] before the step, which is taken.

        Args:
            pixels: in [0, 255], [R, T, B, 3, H, W].
            labels: [R, T, B].
            active: bool [R], the replicates that learn; None: all.
            snapshot: of a probe's step, in place of the backward pass through the prompts' generator.

        Raises:
            torch.OutOfMemoryError: one image of each (replicate, task), with checkpoints, is too much.
        """
        prepared = self._prepare(pixels)
        while True:
            try:
                losses = self._differentiate(prepared, labels, active, snapshot)
                break
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                reason = str(error)
            # Out of the handler: the error's frames hold what the failed attempt computed.
            release(pixels.device)
            self._shrink(reason)
        self._sgd.update()
        return losses

    def _differentiate(
        self, pixels: Tensor, labels: Tensor, active: Tensor | None, snapshot: Snapshot | None
    ) -> Tensor:
        """Losses [R, T]; their gradients are left in the parameters."""
        if not self.images:
            self.images = self._plan(pixels)
        self.in_parts = self.images < pixels.shape[2]
        if self.in_parts:
            return self._in_parts(self.images, pixels, labels, active, snapshot)
        losses = self._each(pixels, labels).mean(-1)
        if snapshot is None:
            self._sgd.differentiate(_masked(losses, active))
        else:
            model, take = self._probed, snapshot

            def backward(summed: Tensor) -> None:
                prompts = [model.generated("text"), model.generated("image")]
                take(model, torch.autograd.grad(summed.sum(), prompts))

            self._sgd.differentiate(_masked(losses, active), backward)
        return losses.detach()

    def _in_parts(
        self, images: int, pixels: Tensor, labels: Tensor, active: Tensor | None, snapshot: Snapshot | None
    ) -> Tensor:
        with self._autocast():
            classes = self._model.class_features()
        leaf = classes.detach().requires_grad_(classes.requires_grad)
        leaves = [leaf] if leaf.requires_grad else []
        parameters, total = self._sgd.parameters, torch.zeros((), device=labels.device)
        of_images: list[Tensor | None] = []
        for own_pixels, own_labels in zip(pixels.split(images, 2), labels.split(images, 2), strict=True):
            losses = self._each(own_pixels, own_labels, leaf).sum(-1) / labels.shape[2]
            total = total + losses.detach()
            targets = parameters if snapshot is None else [self._probed.generated("image")]
            of_images = _added(of_images, _gradients(_masked(losses, active).sum(), [*targets, *leaves]))
        targets = parameters if snapshot is None else [self._probed.generated("text")]
        of_texts: list[Tensor | None] = [None] * len(targets)
        if leaves:
            of_texts = _gradients(classes, targets, of_images.pop())

        def backward(_: Tensor) -> None:
            if snapshot is None:
                for parameter, gradient in zip(parameters, _added(of_images, of_texts), strict=True):
                    parameter.grad = gradient
            else:
                by_set = [gradient for gradient in (*of_texts, *of_images) if gradient is not None]
                snapshot(self._probed, by_set)

        self._sgd.differentiate(total, backward)
        return total

    def _each(self, pixels: Tensor, labels: Tensor, classes: Tensor | None = None) -> Tensor:
        """Cross-entropy [R, T, B] of normalised pixels and labels [R, T, B]."""
        with self._autocast():
            logits = self._model.logits(pixels, classes)
        with full_precision(logits):
            each = F.cross_entropy(logits.flatten(0, 2), labels.flatten(), reduction="none")
        return each.view(labels.shape)

    def _plan(self, pixels: Tensor) -> int:
        with self._autocast():
            images = images_at_a_time(self._model, pixels)
            if images == 0 and not self._model.execution.checkpoint:
                self._model.execution = replace(self._model.execution, checkpoint=True)
                images = images_at_a_time(self._model, pixels)
        if images < pixels.shape[2]:
            logger.info("Steps of %d images are computed %d at a time", pixels.shape[2], max(images, 1))
        return max(images, 1)

    def _shrink(self, reason: str) -> None:
        """Ask for less from here on."""
        if self.images > 1:
            self.images = (self.images + 1) // 2
        elif not self._model.execution.checkpoint:
            self._model.execution = replace(self._model.execution, checkpoint=True)
        else:
            raise torch.OutOfMemoryError(reason)
        logger.warning(
            "Memory ran out (%s); on with %s images at a time%s",
            reason.splitlines()[0],
            self.images,
            ", with checkpoints" if self._model.execution.checkpoint else "",
        )

    @property
    def _probed(self) -> Probed:
        assert isinstance(self._model, Probed), "a probe trains a method that can be probed"
        return self._model


def _masked(losses: Tensor, active: Tensor | None) -> Tensor:
    return losses if active is None else torch.where(active[:, None], losses, 0.0)


def _gradients(of: Tensor, targets: Sequence[Tensor], given: Tensor | None = None) -> list[Tensor | None]:
    return list(torch.autograd.grad(of, list(targets), given, allow_unused=True))


def _added(first: Sequence[Tensor | None], second: Sequence[Tensor | None]) -> list[Tensor | None]:
    if not first:
        return list(second)
    return [b if a is None else a if b is None else a + b for a, b in zip(first, second, strict=True)]
