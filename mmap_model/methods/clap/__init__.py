"""CLAP: ZS-LP held to the text features by class (Silva-Rodríguez et al., 2024; code of jusiro/CLAP)."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from mmap_model.architecture import Architecture
from mmap_model.methods.base import Budget, ClassBoundMethod, Regime, check_range, register, rows_of
from mmap_model.methods.problem import Problem, ProblemSize

if TYPE_CHECKING:
    from mmap_model.backbone import Backbone
    from mmap_model.methods.model import TunedModel


@dataclass(frozen=True, kw_only=True)
class ClapSettings:
    """The published penalty, its factors fixed before training from the labelled images alone.

    Attributes:
        views: augmented views of the labelled images whose zero-shot probabilities give the factors (>= 1).
        regime: rows of class names for all tasks, or ``single``: for each task.
    """

    views: int = 20
    regime: Regime = "single"


class Clap(ClassBoundMethod):
    name = "clap"
    label = "CLAP"
    Settings = ClapSettings
    takes_templates = True
    any_image_tower = True
    fits = True
    new_classes = "zero_shot"
    published = MappingProxyType(
        {"lr": 0.1, "weight_decay": 0.0, "batch_size": 256, "epochs": 300, "views": 20}
    )
    budgets = (Budget(settings={"regime": "single"}, regime="single"), Budget(settings={"regime": "multi"}))

    def check(self, settings: ClapSettings, architecture: Architecture) -> None:
        check_range("views", settings.views, 1)

    def parameters(self, settings: ClapSettings, architecture: Architecture, size: ProblemSize) -> int:
        """E for every row (see ``rows_of``); the factors are computed, not trained."""
        self.check(settings, architecture)
        return rows_of(settings.regime, size, self.name) * architecture.embed_dim

    def build(self, settings: ClapSettings, backbone: Backbone, problem: Problem) -> TunedModel:
        from mmap_model.methods.clap.module import ClapModel

        self.check(settings, backbone.architecture)
        return ClapModel(settings, backbone, problem)


register(Clap())
