"""2SFS: first the LayerNorms of both towers, then a row for every class (Farina et al., 2025; their code)."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from mmap_model.architecture import Architecture
from mmap_model.methods.base import Budget, ClassBoundMethod, Regime, register, rows_of
from mmap_model.methods.problem import Problem, ProblemSize

if TYPE_CHECKING:
    from mmap_model.backbone import Backbone
    from mmap_model.methods.model import TunedModel


@dataclass(frozen=True, kw_only=True)
class TwoStageSettings:
    """The published division: the first 60 % of the epochs train the LayerNorms, the others the rows.

    Attributes:
        regime: one set of LayerNorms for all tasks, or ``single``: one for each. Rows are a task's own.
    """

    regime: Regime = "single"


class TwoStage(ClassBoundMethod):
    name = "two_stage"
    label = "2SFS"
    Settings = TwoStageSettings
    fuses = False
    least_epochs = 2
    new_classes = "tuned_text"
    # 300 steps for every shot; a tenth of them is an epoch here.
    published = MappingProxyType(
        {
            "optimiser": "adamw",
            "lr": 2e-4,
            "weight_decay": 1e-2,
            "batch_size": 32,
            "steps_per_shot": 300,
            "epochs": 10,
            "warmup_epochs": 0,
            "lr_moves": "step",
            "final_lr": 1e-6,
        }
    )
    budgets = (Budget(settings={"regime": "single"}, regime="single"), Budget(settings={"regime": "multi"}))

    def check(self, settings: TwoStageSettings, architecture: Architecture) -> None:
        pass

    def parameters(self, settings: TwoStageSettings, architecture: Architecture, size: ProblemSize) -> int:
        """Two LayerNorms of every block, weight and bias, for each copy, and E for every row."""
        towers = (architecture.text, architecture.image)
        norms = sum(4 * tower.width * tower.layers for tower in towers)
        copies = size.tasks if settings.regime == "single" else 1
        return copies * norms + rows_of("single", size, self.name) * architecture.embed_dim

    def build(self, settings: TwoStageSettings, backbone: Backbone, problem: Problem) -> TunedModel:
        from mmap_model.methods.two_stage.module import TwoStageModel

        return TwoStageModel(settings, backbone, problem)


register(TwoStage())
