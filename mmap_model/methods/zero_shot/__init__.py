"""Zero-shot CLIP: nothing is trained; the class prompts classify (paper, eq. 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmap_model.architecture import Architecture
from mmap_model.methods.base import Budget, Method, register
from mmap_model.methods.problem import Problem

if TYPE_CHECKING:
    from mmap_model.backbone import Backbone
    from mmap_model.methods.model import TunedModel


@dataclass(frozen=True, kw_only=True)
class ZeroShotSettings:
    """Zero-shot has no settings of its own."""


class ZeroShot(Method):
    name = "zero_shot"
    Settings = ZeroShotSettings
    takes_templates = True
    any_image_tower = True
    trains = False
    budgets = (Budget(regime=None),)

    def check(self, settings: ZeroShotSettings, architecture: Architecture) -> None:
        pass

    def count(
        self, settings: ZeroShotSettings, architecture: Architecture, *, tasks: int, groups: int
    ) -> int:
        return 0

    def build(self, settings: ZeroShotSettings, backbone: Backbone, problem: Problem) -> TunedModel:
        from mmap_model.methods.zero_shot.module import ZeroShotModel

        return ZeroShotModel(backbone, problem)


register(ZeroShot())
