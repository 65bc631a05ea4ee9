"""The trainable joint prompts.

Legend: R replicates, M modules (groups first, then tasks), K prompted layers, b prompt length, d_l text
width, d_v image width.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mmap_model.backbone import Backbone
from mmap_model.methods.joint import JointSettings
from mmap_model.methods.modules import ModularPrompts
from mmap_model.methods.problem import Problem


class JointModel(ModularPrompts):
    """Prompts of both towers, free of each other.

    Attributes:
        text: [R, M, K, b, d_l].
        image: [R, M, K, b, d_v].
    """

    text: nn.Parameter
    image: nn.Parameter

    def __init__(self, settings: JointSettings, backbone: Backbone, problem: Problem) -> None:
        """See ``Method.build``."""
        super().__init__(
            backbone,
            problem,
            prompt_length=settings.prompt_length,
            positions=settings.positions,
            modules=settings.modules,
            name="joint",
        )
        shape = backbone.architecture
        for name, width in (("text", shape.text.width), ("image", shape.image.width)):
            self.register_modules(name, (shape.depth, settings.prompt_length, width), settings.prompt_init)

    def text_prompts(self) -> Sequence[Tensor]:
        return self.of_sets(self.text.flatten(0, 1).transpose(0, 1)).unbind(0)

    def image_prompts(self) -> Sequence[Tensor]:
        return self.of_sets(self.image.flatten(0, 1).transpose(0, 1)).unbind(0)
