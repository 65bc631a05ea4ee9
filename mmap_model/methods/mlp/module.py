"""The trainable sources and Linears of MLP prompts.

Legend: R replicates, M modules (groups first, then tasks), K prompted layers, b prompt length, E width of a
source, D width of a tower (d_l text, d_v image).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmap_model.backbone import Backbone
from mmap_model.methods.initial import linear
from mmap_model.methods.mlp import MlpSettings
from mmap_model.methods.modules import ModularPrompts
from mmap_model.methods.problem import Problem


class MlpModel(ModularPrompts):
    """Two Linears per layer, shared by all modules, turn each module's source into prompts of both towers.

    Attributes:
        source: [R, M, b, E], the same in all layers.
        text_weight: [R, K, d_l, E], with ``text_bias`` [R, K, d_l].
        image_weight: [R, K, d_v, E], with ``image_bias`` [R, K, d_v].
    """

    source: nn.Parameter
    text_weight: nn.Parameter
    text_bias: nn.Parameter
    image_weight: nn.Parameter
    image_bias: nn.Parameter

    def __init__(self, settings: MlpSettings, backbone: Backbone, problem: Problem) -> None:
        """See ``Method.build``."""
        super().__init__(
            backbone,
            problem,
            prompt_length=settings.prompt_length,
            positions=settings.positions,
            modules=settings.modules,
            name="mlp",
        )
        shape, inputs, streams = backbone.architecture, settings.source_dim, problem.streams("mlp")
        self.register_modules("source", (settings.prompt_length, inputs), settings.source_init)
        for tower, width in (("text", shape.text.width), ("image", shape.image.width)):
            for name, size in ((f"{tower}_weight", (width, inputs)), (f"{tower}_bias", (width,))):
                drawn = [linear(f"{stream}/{name}", (shape.depth, *size), inputs) for stream in streams]
                value = torch.stack(drawn).to(backbone.device, backbone.dtype)
                self.register_parameter(name, nn.Parameter(value))

    def text_prompts(self) -> Sequence[Tensor]:
        return self.of_sets(generate(self.source, self.text_weight, self.text_bias)).unbind(0)

    def image_prompts(self) -> Sequence[Tensor]:
        return self.of_sets(generate(self.source, self.image_weight, self.image_bias)).unbind(0)


def generate(source: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Prompts of all modules and layers.

    Args:
        source: [R, M, b, E].
        weight: [R, K, D, E].
        bias: [R, K, D].

    Returns:
        [K, R·M, b, D].
    """
    product = torch.einsum("rmbe,rkde->krmbd", source, weight)
    return (product + bias.transpose(0, 1)[:, :, None, None]).flatten(1, 2)
