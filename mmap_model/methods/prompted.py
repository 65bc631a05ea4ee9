"""Base of the methods that tune prompts and leave the CLIP frozen.

Legend: R replicates, T tasks, S = R·T prompt sets, P prompt tokens, D width, E embedding, C classes.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmap_model.backbone import Backbone
from mmap_model.forward import ClassPrompts, encode_classes, encode_images
from mmap_model.forward.class_prompts import Positions
from mmap_model.forward.deployed import DeployedTower
from mmap_model.forward.precision import full_precision
from mmap_model.methods.deployed import CustomFinish, EveryTask, UnitFeatures, overrides, without_gradients
from mmap_model.methods.model import TunedModel
from mmap_model.methods.problem import Problem
from mmap_model.methods.words import mean_texts

if TYPE_CHECKING:
    from open_clip import CLIP

TextPrompts = Literal["task", "replicate", "none"]


class PromptedModel(TunedModel):
    """Runs the prompted forward with the prompts that a method generates.

    The backbone is not a submodule: it is shared, frozen, and absent from parameters and state. Load it on
    the device where the model shall run.

    Attributes:
        evolve: prompts of the last prompted layer run on through the later ones instead of being discarded.
        averages_unit_features: of several templates the unit features are averaged, not the raw ones.
        text_sets: shape of the text prompts' sets, (R, T); (R, L) where all tasks of a replicate have the
            same prompts and L different class lists, which are then encoded once.
    """

    evolve = False
    averages_unit_features = True
    _list_of_task: Tensor | None

    def __init__(
        self,
        backbone: Backbone,
        problem: Problem,
        *,
        prompt_length: int = 0,
        positions: Positions = "original",
        text_prompts_by: TextPrompts = "task",
    ) -> None:
        """See ``ClassPrompts``.

        Args:
            prompt_length: tokens inserted into each class prompt, of all of a task's prompts.
            text_prompts_by: whether text prompts differ by ``task`` or by ``replicate`` only; with ``none``
                class features are constant and computed once.
        """
        super().__init__()
        self.backbone = backbone
        self.replicates, self.tasks = problem.replicates, problem.tasks
        lists = [tuple(names) for names in problem.classes]
        encoded = lists if text_prompts_by == "task" else list(dict.fromkeys(lists))
        # On the device: an index that lies in a list makes the host wait for its copy at every use.
        places = torch.tensor([encoded.index(names) for names in lists], device=backbone.device)
        self.register_buffer("_list_of_task", None if encoded == lists else places, persistent=False)
        self.text_sets = (1 if text_prompts_by == "none" else self.replicates, len(encoded))
        self.class_prompts = ClassPrompts(
            backbone,
            classes=encoded,
            template=problem.template,
            replicates=self.text_sets[0],
            prompt_length=prompt_length,
            positions=positions,
        )
        self._is_constant = text_prompts_by == "none"
        assert problem.templates is None or self._is_constant, "tuned texts have one template"
        self._averaged: list[tuple[Sequence[str], Sequence[str]]] = []
        if problem.templates is not None:
            self._averaged = list(zip(problem.classes, problem.templates, strict=True))
        self._constant: Tensor | None = None

    @property
    def class_mask(self) -> Tensor:
        mask = self.class_prompts.class_mask
        return mask if self._list_of_task is None else mask[self._list_of_task]

    def text_prompts(self) -> Sequence[Tensor]:
        """One [sets, P, D] for each of the first layers of the text tower, for ``text_sets``; or none."""
        return ()

    @abstractmethod
    def image_prompts(self) -> Sequence[Tensor]:
        """One [S, P, D] for each of the first layers of the image tower; empty for none."""

    def class_features(self) -> Tensor:
        return self._constant_class_features() if self._is_constant else self._encode_classes()

    @property
    def plain_images(self) -> bool:
        """Whether ``image_embeddings`` are those of the plain CLIP: nothing of the model's own has a part."""
        names = ("image_features", "image_embeddings", "_clip", "logits", "image_losses")
        own = overrides(self, PromptedModel, *names)
        return self.constant_images and not own and len(self.image_prompts()) == 0

    def image_features(self, pixels: Tensor) -> Tensor:
        return self.finish_images(self.image_embeddings(pixels))

    def image_embeddings(self, pixels: Tensor) -> Tensor:
        """Image embeddings before normalisation, [R, T, B, E]."""
        prompts = self.image_prompts()
        features = encode_images(
            self._clip, pixels.flatten(0, 1), prompts, evolve=self.evolve, execution=self.execution
        )
        return features.view(*pixels.shape[:2], *features.shape[1:])

    def finish_images(self, embeddings: Tensor) -> Tensor:
        with full_precision(embeddings):
            return F.normalize(embeddings, dim=-1)

    def logit_scale(self) -> Tensor:
        return self.backbone.clip.logit_scale.reshape(()).exp()  # type: ignore[no-any-return]

    @torch.no_grad()
    def deployed(self, tasks: Sequence[int]) -> nn.Module:
        assert self.replicates == 1, "one replicate is deployed"
        # Class prompts have no part in images, and hold a good deal of the text tower.
        bare = without_gradients(self, leave_out=("class_prompts",))
        if overrides(self, PromptedModel, "image_features", "image_embeddings"):
            return EveryTask(bare, tasks).eval()
        chosen = torch.tensor(list(tasks), device=self.backbone.device)
        prompts = [prompt[chosen] for prompt in self.image_prompts()]
        tower = DeployedTower.of(self.backbone.clip.visual, prompts, evolve=self.evolve)
        if not overrides(self, PromptedModel, "finish_images"):
            return UnitFeatures(tower).eval()
        return CustomFinish(tower, bare, tasks).eval()

    @property
    def _clip(self) -> CLIP:
        """The towers; in mixed precision with matrices that need no casting."""
        device = self.backbone.device.type
        if torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.bfloat16:
            return self.backbone.in_bf16
        return self.backbone.clip

    def raw_class_features(self) -> Tensor:
        """Class embeddings before normalisation, [R or 1, T, C, E]; of several templates their mean."""
        if self._averaged:
            return self._mean_texts().unsqueeze(0)
        features = self._encode_raw()
        return features if self._list_of_task is None else features[:, self._list_of_task]

    @torch.no_grad()
    def _constant_class_features(self) -> Tensor:
        if self._constant is None:
            self._constant = self.plain_class_features()
        return self._constant

    @torch.no_grad()
    def plain_class_features(self) -> Tensor:
        """`class_features` of texts that are not tuned, computed anew and not kept, [R, T, C, E].

        For ``fit``, which a resumed run does not call: what it computes must not stay.
        """
        if self._averaged:
            unit = F.normalize(self.raw_class_features(), dim=-1)
        else:
            unit = self._encode_classes()
        return unit.expand(self.replicates, -1, -1, -1)

    def _mean_texts(self) -> Tensor:
        """Means over every task's templates, [T, C, E]; beyond a task's classes the last one's again."""
        assert self._averaged
        most, found = self.class_mask.shape[1], []
        for names, templates in self._averaged:
            padded = [*names, *[names[-1]] * (most - len(names))]
            where = "recipe.templates"
            found.append(
                mean_texts(self.backbone, [padded], templates, unit=self.averages_unit_features, where=where)[
                    0
                ]
            )
        return torch.stack(found)

    def _encode_classes(self) -> Tensor:
        features = self._encode_raw()
        with full_precision(features):
            unit = F.normalize(features, dim=-1)
        return unit if self._list_of_task is None else unit[:, self._list_of_task]

    def _encode_raw(self) -> Tensor:
        """Class embeddings of every set, before normalisation, [*text_sets, C, E]."""
        prompts = self.text_prompts()
        features = encode_classes(
            self._clip, self.class_prompts, prompts, evolve=self.evolve, execution=self.execution
        )
        return features.view(*self.text_sets, *features.shape[1:])
