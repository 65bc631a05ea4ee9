"""The self-regulating losses of PromptSRC.

Legend: R replicates, T tasks, B images, C classes (the most of any task), E embedding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmap_model.backbone import Backbone
from mmap_model.forward import encode_images
from mmap_model.forward.precision import full_precision
from mmap_model.methods.independent import IndependentPrompts
from mmap_model.methods.problem import Problem
from mmap_model.methods.promptsrc import PromptsrcSettings
from mmap_model.methods.words import mean_texts
from mmap_model.templates import TEMPLATE_SETS


class PromptsrcModel(IndependentPrompts):
    """Cross-entropy + w_t·mean|t - t0| + w_f·mean|f - f0| + w_p·Σ_c p0·log(p0/p) / C, of unit features.

    f0 are the frozen tower's features of the same augmented pixels, t0 the normalised mean of raw features
    over the anchors' texts, p0 the probabilities by both at the same temperature.

    Attributes:
        anchors: t0, [T, C, E].
    """

    anchors: Tensor

    def __init__(self, settings: PromptsrcSettings, backbone: Backbone, problem: Problem) -> None:
        """See ``Method.build``."""
        depth = settings.depth or backbone.architecture.depth
        super().__init__(
            backbone,
            problem.worded(settings.template),
            name="promptsrc",
            regime=settings.regime,
            lengths=(settings.prompt_length, settings.prompt_length),
            depths=(depth, depth),
            std=settings.prompt_init,
            words=settings.init_words,
        )
        self._weights = settings.text_weight, settings.image_weight, settings.logits_weight
        texts = TEMPLATE_SETS.get(settings.anchors, (settings.anchors,))
        mean = mean_texts(backbone, problem.classes, texts, unit=False, where="settings.anchors")
        self.register_buffer("anchors", F.normalize(mean, dim=-1), persistent=False)

    def image_losses(self, images: Tensor, pixels: Tensor, labels: Tensor, classes: Tensor) -> Tensor:
        _, image_weight, logits_weight = self._weights
        frozen = self.frozen_features(pixels)
        found, wanted = (
            self.compare(*pair).log_softmax(-1) for pair in ((images, classes), (frozen, self.anchors))
        )
        with full_precision(images):
            shown = self.class_mask[None, :, None, :]
            # Beyond a task's classes both are -inf, and their difference is none.
            terms = torch.where(shown, wanted.exp() * (wanted - found).masked_fill(~shown, 0.0), 0.0)
            divergence = terms.sum(-1) / self.class_mask.sum(-1)[None, :, None]
            apart = (images - frozen).abs().mean(-1)
            own = super().image_losses(images, pixels, labels, classes)
            return own + image_weight * apart + logits_weight * divergence

    def class_losses(self, classes: Tensor) -> Tensor:
        with full_precision(classes):
            apart = (classes - self.anchors).abs().mean(-1).masked_fill(~self.class_mask, 0.0)
            return self._weights[0] * apart.sum(-1) / self.class_mask.sum(-1)

    @torch.no_grad()
    def frozen_features(self, pixels: Tensor) -> Tensor:
        """f0 of normalised pixels [R, T, B, 3, H, W]: unit features [R, T, B, E] without prompts."""
        found = encode_images(self._clip, pixels.flatten(0, 1), ())
        with full_precision(found):
            return F.normalize(found, dim=-1).view(*pixels.shape[:3], -1)
