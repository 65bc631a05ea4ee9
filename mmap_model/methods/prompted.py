"""Base of the methods that tune prompts and leave the CLIP frozen."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from mmap_model.backbone import Backbone
from mmap_model.forward import ClassPrompts, encode_classes, encode_images
from mmap_model.forward.class_prompts import Positions
from mmap_model.forward.precision import full_precision
from mmap_model.methods.model import TunedModel


class PromptedModel(TunedModel):
    """Runs the prompted forward with the prompts that a method generates.

    The backbone is not a submodule: it is shared, frozen, and absent from parameters and state. Load it on
        the
    device where the model shall run.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        classes: Sequence[Sequence[str]],
        template: str,
        replicates: int,
        prompt_length: int = 0,
        positions: Positions = "original",
    ) -> None:
        """``prompt_length`` counts the tokens inserted into each class prompt, of all of a task's prompts."""
        super().__init__()
        self.backbone = backbone
        self.replicates, self.tasks = replicates, len(classes)
        self.class_prompts = ClassPrompts(
            backbone,
            classes=classes,
            template=template,
            replicates=replicates,
            prompt_length=prompt_length,
            positions=positions,
        )

    @property
    def class_mask(self) -> Tensor:
        return self.class_prompts.class_mask

    @abstractmethod
    def text_prompts(self) -> Sequence[Tensor]:
        """One [S, P, D] for each of the first layers of the text tower, S = R·T sets; empty for none."""

    @abstractmethod
    def image_prompts(self) -> Sequence[Tensor]:
        """One [S, P, D] for each of the first layers of the image tower; empty for none."""

    def class_features(self) -> Tensor:
        features = encode_classes(self.backbone.clip, self.class_prompts, self.text_prompts())
        with full_precision(features):
            return F.normalize(features, dim=-1).view(self.replicates, self.tasks, *features.shape[1:])

    def image_features(self, pixels: Tensor) -> Tensor:
        features = encode_images(self.backbone.clip, pixels.flatten(0, 1), self.image_prompts())
        with full_precision(features):
            return F.normalize(features, dim=-1).view(self.replicates, self.tasks, *features.shape[1:])

    def logit_scale(self) -> Tensor:
        return self.backbone.clip.logit_scale.reshape(()).exp()  # type: ignore[no-any-return]
