"""BitFit: every bias of both towers (Ben Zaken et al., 2022; code of benzakenelad/BitFit)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmap_model.architecture import Architecture
from mmap_model.methods.base import Budget, Method, register
from mmap_model.methods.problem import Problem
from mmap_model.towers import Tower

if TYPE_CHECKING:
    from mmap_model.backbone import Backbone
    from mmap_model.methods.model import TunedModel


@dataclass(frozen=True, kw_only=True)
class BitfitSettings:
    """BitFit has no settings of its own."""


class Bitfit(Method):
    name = "bitfit"
    label = "BitFit"
    Settings = BitfitSettings
    fuses = False
    budgets = (Budget(printed="0.17M", reading="both towers, LayerNorms included, one set for all tasks"),)

    def check(self, settings: BitfitSettings, architecture: Architecture) -> None:
        pass

    def count(self, settings: BitfitSettings, architecture: Architecture, *, tasks: int, groups: int) -> int:
        """Biases of both towers' blocks, of ``ln_pre``, ``ln_post`` and ``ln_final``."""

        def blocks(tower: Tower) -> int:
            # Attention has 3 + 1 widths of biases, the MLP its hidden width and 1, the two LayerNorms 1 each.
            return tower.layers * (7 * tower.width + tower.hidden)

        text, image = architecture.text, architecture.image
        return blocks(text) + text.width + blocks(image) + 2 * image.width

    def build(self, settings: BitfitSettings, backbone: Backbone, problem: Problem) -> TunedModel:
        from mmap_model.methods.tuned_backbone import TunedBackbone

        return TunedBackbone(
            backbone,
            problem,
            per_task=False,
            trained=lambda name: name.endswith("bias"),
        )


register(Bitfit())
