"""The trainable tokens of VPT.

Legend: R replicates, N copies (1 or T), J prompted layers, n tokens, d_v image width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from mmap_model.backbone import Backbone
from mmap_model.forward.image import normalise_entering
from mmap_model.methods.copies import CopiedModel
from mmap_model.methods.initial import linear, normal
from mmap_model.methods.problem import Problem
from mmap_model.methods.vpt import VptSettings


class VptModel(CopiedModel):
    """The image is ``[class, prompts, patches]`` in the first J layers; class features are constant.

    Attributes:
        prompts: [R, N, J, n, d_v]; a group's stand before a task's own.
    """

    evolve = True
    prompts: nn.Parameter

    def __init__(self, settings: VptSettings, backbone: Backbone, problem: Problem) -> None:
        """See ``Method.build``."""
        super().__init__(
            backbone,
            problem,
            name="vpt",
            regime=settings.regime,
        )
        tower = backbone.architecture.image
        shape = (settings.depth or tower.layers, settings.prompt_length, tower.width)
        bound = math.sqrt(6 / (3 * backbone.architecture.patch_size**2 + tower.width))

        def start(stream: str) -> Tensor:
            if settings.start == "uniform":
                return bound * linear(stream, shape, inputs=1)
            return normal(stream, shape, settings.prompt_init)

        self.register_copies("prompts", start)
        self._before_ln_pre = settings.before_ln_pre

    def image_prompts(self) -> Sequence[Tensor]:
        prompts = self.for_images(self.prompts)
        return normalise_entering(self.backbone.clip, prompts) if self._before_ln_pre else prompts
