"""Full fine-tuning of the whole CLIP; the text tower stays the classifier (paper, Tables 1 and 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmap_model.architecture import Architecture
from mmap_model.methods.base import Budget, Method, Regime, register
from mmap_model.methods.problem import Problem

if TYPE_CHECKING:
    from mmap_model.backbone import Backbone
    from mmap_model.methods.model import TunedModel


@dataclass(frozen=True, kw_only=True)
class FullFtSettings:
    """What is trained; the rate is ``recipe.lr``, for which 1e-4 to 1e-3 is our advice (the paper has none).

    Attributes:
        regime: one CLIP for all tasks, or ``single``: one per task.
    """

    regime: Regime = "multi"


class FullFt(Method):
    name = "full_ft"
    label = "Full FT"
    Settings = FullFtSettings
    fuses = False
    keeps_weights = False
    budgets = (
        Budget(
            settings={"regime": "single"}, regime="single", printed="598.48M", reading="one CLIP per task"
        ),
        Budget(printed="149.62M", reading="the whole CLIP, its temperature included"),
    )

    def check(self, settings: FullFtSettings, architecture: Architecture) -> None:
        pass

    def count(self, settings: FullFtSettings, architecture: Architecture, *, tasks: int, groups: int) -> int:
        """The whole CLIP, for each task in the ``single`` regime; unused vocabulary is not trained."""
        return (tasks if settings.regime == "single" else 1) * architecture.counted_parameters

    def build(self, settings: FullFtSettings, backbone: Backbone, problem: Problem) -> TunedModel:
        from mmap_model.methods.tuned_backbone import TunedBackbone

        return TunedBackbone(
            backbone,
            problem,
            per_task=settings.regime == "single",
            trained=lambda name: True,
        )


register(FullFt())
