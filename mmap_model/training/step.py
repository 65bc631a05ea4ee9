"""One training step: losses, gradients, update; in parts where memory does not hold it at once.

Legend: R replicates, T tasks, B images per replicate, task and step, C classes, E embedding.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from mmap_model.methods.deployed import overrides
from mmap_model.methods.model import TunedModel, cross_entropy
from mmap_model.methods.probed import Probed
from mmap_model.out_of_memory import is_out_of_memory
from mmap_model.training.memory import images_at_a_time, release
from mmap_model.training.optimiser import ReplicateOptimiser
from mmap_model.training.replay import RecordedStep, StepKind, on_stream

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
        kept: steps are given ``image_embeddings`` in place of pixels.
        give_back: frees what other steps left, where memory runs out.

    Attributes:
        images: of each (replicate, task) computed at a time; 0 before the first step plans it.
        in_parts: memory does not hold a whole step.
    """

    def __init__(
        self,
        model: TunedModel,
        sgd: ReplicateOptimiser,
        prepare: Callable[[Tensor], Tensor],
        autocast: Callable[[], AbstractContextManager[object]],
        *,
        kept: bool = False,
        give_back: Callable[[], None] = lambda: None,
    ) -> None:
        self._model, self._sgd, self._give_back = model, sgd, give_back
        self._prepare, self._autocast, self._kept = prepare, autocast, kept
        self.images, self.in_parts = 0, False
        self._recorded: RecordedStep | None = None
        self._records = True
        self._stream: torch.cuda.Stream | None = None

    def take(
        self, pixels: Tensor, labels: Tensor, active: Tensor | None = None, snapshot: Snapshot | None = None
    ) -> Tensor:
        """Mean loss [R, T] before the step, which is taken: cross-entropy, and what the method adds.

        Args:
            pixels: in [0, 255], [R, T, B, 3, H, W]; or what is kept of them, [R, T, B, E].
            labels: [R, T, B].
            active: bool [R], the replicates that learn; None: all.
            snapshot: of a probe's step, in place of the backward pass through the prompts' generator.

        Raises:
            torch.OutOfMemoryError: one image of each (replicate, task), with checkpoints, is too much.
        """
        prepared = pixels if self._kept else self._prepare(pixels)

        def differentiate() -> Tensor:
            with self._aside(pixels.device):
                losses = self._by_record(prepared, labels, active) if snapshot is None else None
                return self._differentiate(prepared, labels, active, snapshot) if losses is None else losses

        losses = self._as_memory_allows(differentiate, pixels.device)
        self._sgd.update()
        return losses

    def plan(self, pixels: Tensor) -> int:
        """Images of each (replicate, task) to compute at a time, of normalised pixels; planned once."""
        self.images = self.images or self._plan_pixels(pixels)
        return self.images

    def embed(self, pixels: Tensor) -> Tensor:
        """``image_embeddings`` [R, T, B, E] of pixels in [0, 255], for a model with ``constant_images``.

        As many images at a time as a step on them would take, which is how steps on the embeddings go on.

        Raises:
            torch.OutOfMemoryError: as for `take`.
        """
        prepared = self._prepare(pixels)

        @torch.no_grad()
        def compute() -> Tensor:
            with self._autocast():
                images = self.plan(prepared)
                parts = [self._model.image_embeddings(part) for part in prepared.split(images, 2)]
            return parts[0] if len(parts) == 1 else torch.cat(parts, 2)

        return self._as_memory_allows(compute, pixels.device)

    def _as_memory_allows(self, compute: Callable[[], Tensor], device: torch.device) -> Tensor:
        """The result, in smaller and smaller parts where memory runs out."""
        while True:
            try:
                return compute()
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                reason = str(error)
            # Out of the handler: the error's frames hold what the failed attempt computed.
            self._give_back()
            release(device)
            self._shrink(reason)

    def _aside(self, device: torch.device) -> AbstractContextManager[object]:
        """Where records are made: away from the stream that the host waits for, eager steps too.

        Autograd's leaves remember the stream they were first used on, and models keep some across steps.
        """
        if device.type != "cuda" or not self._model.execution.replays(device.type):
            return nullcontext()
        self._stream = self._stream or torch.cuda.Stream(device)
        return on_stream(self._stream)

    def _by_record(self, pixels: Tensor, labels: Tensor, active: Tensor | None) -> Tensor | None:
        """As `_differentiate`, by what was recorded of an earlier step; None where that is not to be had."""
        # The first step is not recorded: it plans, and computes what stays.
        wanted = self._model.execution.replays(pixels.device.type) and self._model.steps_alike
        if not (wanted and self._records and self.images == pixels.shape[2]):
            self._recorded = None
            return None
        parameters = self._sgd.parameters
        trained = tuple(parameter.requires_grad for parameter in parameters)
        kind = StepKind(pixels.shape, labels.shape, active is not None, trained, self._sgd.stage)
        if self._recorded is None or self._recorded.kind != kind:
            self._recorded = None  # before the next takes memory
            step = partial(self._differentiate, snapshot=None)
            try:
                self._recorded = RecordedStep(kind, step, pixels, labels, active, parameters)
            except RuntimeError as error:  # memory that ran out among them
                self._records, reason = False, str(error).splitlines()[0]
        if self._recorded is None:
            release(pixels.device)
            logger.warning("A step could not be recorded (%s); on without a record", reason)
            return None
        return self._recorded.take(pixels, labels, active)

    def _differentiate(
        self, pixels: Tensor, labels: Tensor, active: Tensor | None, snapshot: Snapshot | None
    ) -> Tensor:
        """Losses [R, T]; their gradients are left in the parameters."""
        if not self.images:
            self.images = self._plan(pixels)
        self.in_parts = self.images < pixels.shape[2]
        if self.in_parts:
            return self._in_parts(self.images, pixels, labels, active, snapshot)
        self._model.part = (0, 0)
        classes = self._classes()
        losses = self._of_classes(self._each(pixels, labels, classes).mean(-1), classes)
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
        classes = self._classes()
        leaf = classes.detach().requires_grad_(classes.requires_grad)
        leaves = [leaf] if leaf.requires_grad else []
        parameters, total = self._sgd.parameters, torch.zeros((), device=labels.device)
        of_images: list[Tensor | None] = []
        for number, own_pixels in enumerate(pixels.split(images, 2)):
            own_labels = labels[:, :, number * images : (number + 1) * images]
            self._model.part = (number * images, pixels.shape[2])
            losses = self._each(own_pixels, own_labels, leaf).sum(-1) / labels.shape[2]
            total = total + losses.detach()
            targets = parameters if snapshot is None else [self._probed.generated("image")]
            of_images = _added(of_images, _gradients(_masked(losses, active).sum(), [*targets, *leaves]))
        self._model.part = (0, 0)
        own = self._of_classes(torch.zeros_like(total), leaf)
        if own.requires_grad:
            of_images = _added(of_images, _gradients(_masked(own, active).sum(), [*parameters, *leaves]))
        total = total + own.detach()
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

    def _classes(self) -> Tensor:
        with self._autocast():
            return self._model.class_features()

    def _each(self, pixels: Tensor, labels: Tensor, classes: Tensor) -> Tensor:
        """Losses [R, T, B] of normalised pixels and labels [R, T, B]."""
        with self._autocast():
            if overrides(self._model, TunedModel, "logits"):
                return cross_entropy(self._model.logits(pixels, classes), labels)
            images = self._model.finish_images(pixels) if self._kept else self._model.image_features(pixels)
            return self._model.image_losses(images, pixels, labels, classes)

    def _of_classes(self, losses: Tensor, classes: Tensor) -> Tensor:
        """``losses`` [R, T] and what the method adds of class features."""
        with self._autocast():
            own = self._model.class_losses(classes)
        return losses if own is None else losses + own

    def _plan(self, pixels: Tensor) -> int:
        return pixels.shape[2] if self._kept else self._plan_pixels(pixels)

    @torch.enable_grad()
    def _plan_pixels(self, pixels: Tensor) -> int:
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
        self._recorded = None
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
