"""What computes an artefact's logits: a module of this process, or a file that another runtime executes.

Legend: B images, C classes (the most of any task), E embedding.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from mmap_model.errors import ConfigurationError
from mmap_model.inference.tower import DeployedClassifier

Precision = Literal["fp32", "bf16"]


class ClassRows(NamedTuple):
    """A task's classes by another list.

    Attributes:
        features: unit class features [C, E].
        mixed: some are of the tuned model and others of the plain CLIP.
    """

    features: Tensor
    mixed: bool


Reword = Callable[[int, Sequence[str], str | None], ClassRows]
"""Class features of the task with that index, for class names and a template (None: the one trained with)."""


class InferenceEngine(ABC):
    """Logits of normalised pixels; what else it can do depends on what the artefact holds.

    Attributes:
        kind: of the artefact, for messages.
        device: where pixels are computed.
        dtype: of normalised pixels.
    """

    kind: str
    device: torch.device
    dtype: torch.dtype

    @abstractmethod
    def logits(self, pixels: Tensor, task: Tensor) -> Tensor:
        """[B, C] of normalised pixels [B, 3, S, S] and tasks, int64 [B]."""

    def features(self, pixels: Tensor, task: Tensor) -> Tensor:
        """Unit features [B, E]. Raises ConfigurationError where only logits come out."""
        raise self._lacks("gives logits only, no features", "classifier or prompts")

    def plain_features(self, pixels: Tensor) -> Tensor:
        """Unit features [B, E] of the CLIP before tuning. Raises ConfigurationError if it is not there."""
        raise self._lacks("does not hold the image tower as it was before tuning", "classifier or prompts")

    def with_classes(
        self, task: int, classes: Sequence[str], template: str | None
    ) -> tuple[InferenceEngine, bool]:
        """The same with other classes of a task, and whether its head is mixed now.

        Raises:
            ConfigurationError: there is no text tower, or the method refuses.
        """
        raise self._lacks("has no text tower, so its classes are fixed", "prompts")

    def _lacks(self, problem: str, kinds: str) -> ConfigurationError:
        return ConfigurationError(
            f"an artefact of kind {self.kind} {problem}", fix=f"export with --format {kinds}"
        )


class TorchEngine(InferenceEngine):
    """A ``DeployedClassifier`` in this process."""

    def __init__(
        self,
        classifier: DeployedClassifier,
        *,
        kind: str,
        precision: Precision = "fp32",
        plain: nn.Module | None = None,
        reword: Reword | None = None,
    ) -> None:
        """See ``InferenceEngine``.

        Args:
            classifier: image side and head.
            precision: of the towers; features and logits are in the weights' own.
            plain: forward(pixels, task) of the CLIP without prompts, unit features; None if it is not there.
            reword: class features of other classes; None without a text tower.
        """
        self.kind = kind
        self._classifier, self._plain, self._reword = classifier, plain, reword
        self._precision = precision
        features = classifier.head.class_features
        self.device, self.dtype = features.device, features.dtype

    @torch.no_grad()
    def logits(self, pixels: Tensor, task: Tensor) -> Tensor:
        return self._classifier.of_features(self.features(pixels, task), task)

    @torch.no_grad()
    def features(self, pixels: Tensor, task: Tensor) -> Tensor:
        with self._cast():
            return self._classifier.images(pixels, task)  # type: ignore[no-any-return]

    @torch.no_grad()
    def plain_features(self, pixels: Tensor) -> Tensor:
        if self._plain is None:
            return super().plain_features(pixels)
        with self._cast():
            return self._plain(pixels, pixels.new_zeros(len(pixels), dtype=torch.int64))  # type: ignore[no-any-return]

    def with_classes(
        self, task: int, classes: Sequence[str], template: str | None
    ) -> tuple[InferenceEngine, bool]:
        if self._reword is None:
            return super().with_classes(task, classes, template)
        rows = self._reword(task, classes, template)
        if self._classifier.beside is not None:
            raise ConfigurationError(
                "what it keeps of labelled images counts for the classes it was trained on, in their order",
                where="classes",
                fix="leave the classes as they are",
            )
        head = self._classifier.head.with_rows(task, rows.features)
        changed = DeployedClassifier(self._classifier.images, head).eval()
        again = TorchEngine(
            changed, kind=self.kind, precision=self._precision, plain=self._plain, reword=self._reword
        )
        return again, rows.mixed

    def _cast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self._precision == "bf16")
