"""The trainable prompts of MaPLe and the Linears that couple the towers.

Legend: R replicates, N copies (1 or T), J prompted layers, n tokens, d_l text width, d_v image width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmap_model.backbone import Backbone
from mmap_model.forward.image import normalise_entering
from mmap_model.methods.copies import CopiedModel
from mmap_model.methods.initial import linear, normal
from mmap_model.methods.maple import MapleSettings
from mmap_model.methods.problem import Problem


class MapleModel(CopiedModel):
    """Image prompts are Linears of the text prompts, layer by layer.

    Attributes:
        prompts: of the text tower, [R, N, J, n, d_l].
        weight: of the Linears, [R, N, J, d_v, d_l]; those after the first layer start as clones of one.
        bias: [R, N, J, d_v].
    """

    evolve = True
    prompts: nn.Parameter
    weight: nn.Parameter
    bias: nn.Parameter

    def __init__(self, settings: MapleSettings, backbone: Backbone, problem: Problem) -> None:
        """See ``Method.build``."""
        super().__init__(
            backbone,
            problem.worded(settings.template),
            name="maple",
            per_task=settings.regime == "single",
            text_prompt_length=settings.prompt_length,
            positions="assembled",
        )
        shape = backbone.architecture
        depth, text, image = settings.depth or shape.depth, shape.text.width, shape.image.width

        def clones(stream: str, size: tuple[int, ...]) -> Tensor:
            first, deep = (linear(f"{stream}/{part}", size, text) for part in ("first", "deep"))
            return torch.stack([first, *[deep] * (depth - 1)])

        prompt_shape = (depth, settings.prompt_length, text)
        self.register_copies("prompts", lambda stream: normal(stream, prompt_shape, settings.prompt_init))
        self.start_at_words("prompts", settings.init_words, layered=True)
        self.register_copies("weight", lambda stream: clones(stream, (image, text)))
        self.register_copies("bias", lambda stream: clones(stream, (image,)))
        self._before_ln_pre = settings.before_ln_pre

    def text_prompts(self) -> Sequence[Tensor]:
        return self.for_texts(self.prompts)

    def image_prompts(self) -> Sequence[Tensor]:
        coupled = self.prompts @ self.weight.transpose(-1, -2) + self.bias.unsqueeze(-2)
        prompts = self.for_images(coupled)
        return normalise_entering(self.backbone.clip, prompts) if self._before_ln_pre else prompts
