"""What a method trains: R replicates of T tasks as one batch.

Legend: R replicates, T tasks, B images per task and replicate, C classes (the most of any task), E embedding,
H, W image size. Set s = r * T + t is the pair (replicate r, task t).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmap_model.execution import DEFAULT_EXECUTION, Execution
from mmap_model.forward.precision import full_precision
from mmap_model.methods.deployed import EveryTask, without_gradients
from mmap_model.methods.support import Support


class TunedModel(nn.Module, ABC):
    """A frozen or trained CLIP seen by the training loop, with a leading replicate axis everywhere.

    Attributes:
        replicates: R.
        tasks: T.
        constant_images: nothing trained has a part in ``image_embeddings``: of the same pixels they may be
            computed once and kept. Then ``image_features`` is ``finish_images`` of them.
        execution: how to compute.
        fits: ``fit`` computes something of the labelled images before training.
        step: number of the training step, 1-based over all epochs: what is random in a step is keyed by it.
        part: of a step's images per replicate and task the number of the first that comes and of all; (0, 0)
            where all come at once.
        stages: shares of the training after which other tensors are trained; see ``enter_stage``.
    """

    execution: Execution = DEFAULT_EXECUTION
    constant_images: ClassVar[bool] = False
    fits: ClassVar[bool] = False
    stages: ClassVar[tuple[float, ...]] = ()
    step: int = 0
    part: tuple[int, int] = (0, 0)
    _fitted: tuple[str, ...] = ()
    replicates: int
    tasks: int

    @property
    def plain_images(self) -> bool:
        """Whether ``image_embeddings`` are those of the plain CLIP, which models share then."""
        return False

    @property
    def steps_alike(self) -> bool:
        """Whether all that differs between steps comes in with pixels, labels and parameters."""
        return True

    @property
    @abstractmethod
    def class_mask(self) -> Tensor:
        """bool [T, C], False where a task has fewer classes than C."""

    @abstractmethod
    def class_features(self) -> Tensor:
        """Unit class embeddings, fp32 (or fp64): [R, T, C, E]; finite outside ``class_mask`` too."""

    @abstractmethod
    def image_features(self, pixels: Tensor) -> Tensor:
        """Unit image embeddings, fp32 (or fp64): [R, T, B, E] of normalised pixels [R, T, B, 3, H, W]."""

    def image_embeddings(self, pixels: Tensor) -> Tensor:
        """What training leaves as it is of the images' way to their features, [R, T, B, …].

        Only models with ``constant_images`` have it; pixels as for ``image_features``.
        """
        raise NotImplementedError(f"{type(self).__name__} has no constant images")

    def finish_images(self, embeddings: Tensor) -> Tensor:
        """``image_features`` of the pixels whose ``image_embeddings`` are given."""
        raise NotImplementedError(f"{type(self).__name__} has no constant images")

    @abstractmethod
    def logit_scale(self) -> Tensor:
        """exp(logit_scale): 1/τ of eq. 5, a scalar; [R, T, 1, 1] where a method trains it."""

    def logits(self, pixels: Tensor, class_features: Tensor | None = None) -> Tensor:
        """exp(logit_scale)·cosine (eq. 5), [R, T, B, C]; classes outside ``class_mask`` get -inf."""
        classes = self.class_features() if class_features is None else class_features
        return self.compare(self.image_features(pixels), classes)

    def compare(self, images: Tensor, classes: Tensor) -> Tensor:
        """``logits`` of features: of images [R, T, B, E] and of classes [R, T, C, E]."""
        with full_precision(images):
            scores = self.logit_scale() * images @ classes.transpose(-1, -2)
        return scores.masked_fill(~self.class_mask[None, :, None, :], -torch.inf)

    def deployed(self, tasks: Sequence[int]) -> nn.Module:
        """The images' way to their features when nothing is trained any more, for export and serving.

        Of the model of one replicate. Weights are shared with this model and its backbone, not copied.

        Args:
            tasks: numbers of the tasks that it shall serve, in its order.

        Returns:
            A module in evaluation mode, of plain torch operations that ``torch.export`` follows. Its
            ``forward(pixels, task)`` gives unit features [B, E] of normalised pixels [B, 3, H, W] and of the
            places of the images' tasks among ``tasks``, int64 [B]. By default that is ``image_features`` for
            all tasks, of which each image's is taken: exact, but T times the work.
        """
        assert self.replicates == 1, "one replicate is deployed"
        return EveryTask(without_gradients(self), tasks).eval()

    def tuned_clips(self, tasks: Sequence[int]) -> list[dict[str, Tensor]] | None:
        """The CLIPs that compute these features by themselves, of the model of one replicate.

        Returns:
            Parameters by open_clip's names, of one CLIP for all ``tasks`` or of one for each; None where more
            than the weights of a CLIP was trained.
        """
        return None

    def beside_head(self, tasks: Sequence[int]) -> nn.Module | None:
        """What the logits have beside scaled cosines of ``class_features``, of the model of one replicate.

        Returns:
            A module as ``deployed`` gives, whose ``forward(features, task)`` is what is added to the logits
            [B, C] of unit features [B, E]; None where logits are scaled cosines and nothing else.
        """
        return None

    def text_rows(self, task: int, names: Sequence[str], template: str | None) -> Tensor:
        """Unit features [C, E] of classes without rows; only models of ``new_classes = "tuned_text"``.

        Args:
            task: whose classes they shall be.
            names: of the classes.
            template: of their texts; None: the one trained with.
        """
        raise NotImplementedError(f"{type(self).__name__} has no features of other classes")

    def fit(self, support: Support) -> None:
        """Compute what the labelled images alone decide, before the first step. Only models that ``fits``.

        Results belong into tensors of ``register_fitted`` or into parameters: they are saved and restored.
        """

    def enter_stage(self, stage: int) -> None:
        """Train what stage ``stage`` trains, 0 being the first; only models with ``stages``.

        Called once, before the stage's first epoch, with an optimiser that remembers nothing.
        """

    def register_fitted(self, name: str, value: Tensor) -> None:
        """Add a tensor [R, …] that is computed, not trained, and belongs to checkpoints."""
        self.register_buffer(name, value)
        self._fitted = (*self._fitted, name)

    def fitted(self) -> dict[str, Tensor]:
        """The tensors of ``register_fitted``, by name."""
        return {name: self.get_buffer(name) for name in self._fitted}

    @torch.no_grad()
    def restore_fitted(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what ``fitted`` gave, of all replicates."""
        for name, tensor in self.fitted().items():
            tensor.copy_(tensors[name])

    def image_losses(self, images: Tensor, pixels: Tensor, labels: Tensor, classes: Tensor) -> Tensor:
        """What training lowers, for each image: cross-entropy, [R, T, B].

        Args:
            images: their features [R, T, B, E].
            pixels: normalised, [R, T, B, 3, H, W]; what ``image_embeddings`` gave where that is kept.
            labels: [R, T, B].
            classes: features [R, T, C, E].
        """
        return cross_entropy(self.compare(images, classes), labels)

    def class_losses(self, classes: Tensor) -> Tensor | None:
        """What training lowers beside ``image_losses``, [R, T]: of class features and parameters."""
        return None

    def state_rows(self, name: str, replicate: int) -> list[int] | slice:
        """Of the tensor ``name`` [R, N, …] the places along N that the replicate uses."""
        return slice(None)

    def replicate_state(self, replicate: int) -> dict[str, Tensor]:
        """What replicate ``replicate`` has trained and fitted, without the replicate axis: its checkpoint."""
        return {
            name: tensor.detach()[replicate][self.state_rows(name, replicate)].clone()
            for name, tensor in (*self.named_parameters(), *self.fitted().items())
        }

    @torch.no_grad()
    def load_replicate_state(self, replicate: int, tensors: Mapping[str, Tensor]) -> None:
        """Take over what ``replicate_state`` of a model of the same configuration gave."""
        for name, tensor in (*self.named_parameters(), *self.fitted().items()):
            tensor[replicate, self.state_rows(name, replicate)] = tensors[name].to(tensor)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Of logits [R, T, B, C] and labels [R, T, B], for each image [R, T, B], in full precision."""
    with full_precision(logits):
        each = F.cross_entropy(logits.flatten(0, 2), labels.flatten(), reduction="none")
    return each.view(labels.shape)
