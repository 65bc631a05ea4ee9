"""ZS-LP: a linear probe from the text features on (Silva-Rodríguez et al., 2024; code of jusiro/CLAP)."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from mmap_model.architecture import Architecture
from mmap_model.methods.base import Budget, ClassBoundMethod, GroupedRegime, register, rows_of
from mmap_model.methods.problem import Problem, ProblemSize

if TYPE_CHECKING:
    from mmap_model.backbone import Backbone
    from mmap_model.methods.model import TunedModel


@dataclass(frozen=True, kw_only=True)
class ZsLpSettings:
    """The published probe has no settings of its own.

    Attributes:
        regime: rows of class names for all tasks, ``single``: for each task, or ``grouped``: what is added to
            the text features for its group and for itself.
    """

    regime: GroupedRegime = "single"


class ZsLp(ClassBoundMethod):
    name = "zs_lp"
    label = "ZS-LP"
    Settings = ZsLpSettings
    takes_templates = True
    any_image_tower = True
    new_classes = "zero_shot"
    published = MappingProxyType(
        {"lr": 0.1, "weight_decay": 0.0, "batch_size": 256, "epochs": 300, "views": 20}
    )
    budgets = (
        Budget(settings={"regime": "single"}, regime="single"),
        Budget(settings={"regime": "multi"}),
        Budget(settings={"regime": "grouped"}, regime="grouped"),
    )

    def check(self, settings: ZsLpSettings, architecture: Architecture) -> None:
        pass

    def parameters(self, settings: ZsLpSettings, architecture: Architecture, size: ProblemSize) -> int:
        """E for every row (see ``rows_of``)."""
        return rows_of(settings.regime, size, self.name) * architecture.embed_dim

    def build(self, settings: ZsLpSettings, backbone: Backbone, problem: Problem) -> TunedModel:
        from mmap_model.methods.rows import RowsModel

        return RowsModel(backbone, problem, regime=settings.regime)


register(ZsLp())
