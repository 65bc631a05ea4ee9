"""TaskRes: a trained residual on every class's text feature (Yu et al., 2023; code of geekyutao/TaskRes)."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from mmap_model.architecture import Architecture
from mmap_model.methods.base import Budget, ClassBoundMethod, GroupedRegime, check_range, register, rows_of
from mmap_model.methods.problem import Problem, ProblemSize

if TYPE_CHECKING:
    from mmap_model.backbone import Backbone
    from mmap_model.methods.model import TunedModel


@dataclass(frozen=True, kw_only=True)
class TaskResSettings:
    """The published residual on the plain CLIP (its "enhanced base" is another text projection: left out).

    Attributes:
        alpha: α, the share of the residual (> 0; published: 0.5, for one dataset 1.0).
        regime: residuals of class names for all tasks, ``single``: for each task, or ``grouped``: for its
            group and for itself, which are added.
    """

    alpha: float = 0.5
    regime: GroupedRegime = "single"


class TaskRes(ClassBoundMethod):
    name = "task_res"
    label = "TaskRes"
    Settings = TaskResSettings
    takes_templates = True
    any_image_tower = True
    new_classes = "zero_shot"
    # From 8 shots on; up to 4 they train 100 epochs.
    published = MappingProxyType({"optimiser": "adam", "lr": 2e-3, "batch_size": 256, "epochs": 200})
    budgets = (
        Budget(settings={"regime": "single"}, regime="single"),
        Budget(settings={"regime": "multi"}),
        Budget(settings={"regime": "grouped"}, regime="grouped"),
    )

    def check(self, settings: TaskResSettings, architecture: Architecture) -> None:
        check_range("alpha", settings.alpha, 1e-6)

    def parameters(self, settings: TaskResSettings, architecture: Architecture, size: ProblemSize) -> int:
        """E for every row (see ``rows_of``)."""
        self.check(settings, architecture)
        return rows_of(settings.regime, size, self.name) * architecture.embed_dim

    def build(self, settings: TaskResSettings, backbone: Backbone, problem: Problem) -> TunedModel:
        from mmap_model.methods.task_res.module import TaskResModel

        self.check(settings, backbone.architecture)
        return TaskResModel(settings, backbone, problem)


register(TaskRes())
