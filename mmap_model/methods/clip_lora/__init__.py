"""CLIP-LoRA: low-rank changes of query, key and value matrices (Zanella and Ben Ayed, 2024; their code)."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from mmap_model.architecture import Architecture
from mmap_model.errors import ShapeError
from mmap_model.methods.base import Budget, GroupedRegime, Method, check_range, copies_of, register
from mmap_model.methods.problem import Problem

if TYPE_CHECKING:
    from mmap_model.backbone import Backbone
    from mmap_model.methods.model import TunedModel


@dataclass(frozen=True, kw_only=True)
class ClipLoraSettings:
    """The published defaults, in every block of both towers.

    Attributes:
        rank: r (>= 1).
        alpha: α (> 0); the change is α/√r·B·A, as the published code has it (α/r stands there too, unused).
        dropout: share of the branch's input that is dropped in training (0 <= p < 1).
        regime: one change for all tasks, ``single``: one for each, or ``grouped``: the sum of one for the
            task's group and its own.
    """

    rank: int = 2
    alpha: float = 1.0
    dropout: float = 0.25
    regime: GroupedRegime = "single"


class ClipLora(Method):
    name = "clip_lora"
    label = "CLIP-LoRA"
    Settings = ClipLoraSettings
    fuses = False
    # 500 steps for every shot; a tenth of them is an epoch here.
    published = MappingProxyType(
        {
            "optimiser": "adamw",
            "lr": 2e-4,
            "weight_decay": 1e-2,
            "batch_size": 32,
            "steps_per_shot": 500,
            "epochs": 10,
            "warmup_epochs": 0,
            "lr_moves": "step",
            "final_lr": 1e-6,
        }
    )
    budgets = (
        Budget(settings={"regime": "single"}, regime="single"),
        Budget(settings={"regime": "multi"}),
        Budget(settings={"regime": "grouped"}, regime="grouped"),
    )

    def check(self, settings: ClipLoraSettings, architecture: Architecture) -> None:
        check_range("rank", settings.rank, 1, min(architecture.text.width, architecture.image.width))
        check_range("alpha", settings.alpha, 1e-6)
        if not 0 <= settings.dropout < 1:
            raise ShapeError(
                f"{settings.dropout!r} is not allowed", where="dropout", fix="use 0 or more and less than 1"
            )

    def count(
        self, settings: ClipLoraSettings, architecture: Architecture, *, tasks: int, groups: int
    ) -> int:
        """Of each copy, A [r, d] and B [d, r] for three matrices of every block."""
        self.check(settings, architecture)
        towers = (architecture.text, architecture.image)
        own = sum(3 * 2 * settings.rank * tower.width * tower.layers for tower in towers)
        return copies_of(settings.regime, tasks=tasks, groups=groups) * own

    def build(self, settings: ClipLoraSettings, backbone: Backbone, problem: Problem) -> TunedModel:
        from mmap_model.methods.clip_lora.module import ClipLoraModel

        self.check(settings, backbone.architecture)
        return ClipLoraModel(settings, backbone, problem)


register(ClipLora())
