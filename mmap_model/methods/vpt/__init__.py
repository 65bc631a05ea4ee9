"""VPT: learned tokens in the image tower (Jia et al., 2022; placement as in MVLPT)."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from mmap_model.architecture import Architecture
from mmap_model.methods.base import Budget, GroupedRegime, Method, check_range, copies_of, register
from mmap_model.methods.problem import Problem
from mmap_model.revisions import added_field

if TYPE_CHECKING:
    from mmap_model.backbone import Backbone
    from mmap_model.methods.model import TunedModel


@dataclass(frozen=True, kw_only=True)
class VptSettings:
    """VPT-deep with the prompt length that gives the paper's 0.17M.

    Attributes:
        prompt_length: n, tokens per prompted layer (>= 1), beside the class token.
        depth: first layers that have prompts of their own, or None for all. Prompts are discarded after
            their layer, those of the last prompted layer run on to the end (``depth=1`` is VPT-shallow).
        prompt_init: standard deviation of the prompts.
        before_ln_pre: let the first layer's prompts pass the image tower's ``ln_pre``, as in MaPLe's code.
        regime: one set of prompts for all tasks (VPT-MT), ``single``: one per task, or ``grouped``: one per
            group and one per task, side by side.
        start: ``normal``: N(0, prompt_init²), or ``uniform`` within ±√(6 / (3·patch² + d_v)), as published.
    """

    prompt_length: int = 18
    depth: int | None = None
    prompt_init: float = 0.02
    before_ln_pre: bool = False
    regime: GroupedRegime = "multi"
    start: Literal["normal", "uniform"] = added_field("normal")


class Vpt(Method):
    name = "vpt"
    label = "VPT"
    Settings = VptSettings
    takes_templates = True
    # As the image prompts of MaPLe's code are trained; the original's rates are found by search.
    published = MappingProxyType({"lr": 0.0025, "batch_size": 4, "epochs": 5})
    budgets = (
        Budget(
            settings={"regime": "single"},
            regime="single",
            printed="0.68M",
            reading="four times the rounded 0.17M",
        ),
        Budget(printed="0.17M", reading="12 layers of 18 tokens, the only number that prints it"),
        Budget(settings={"regime": "grouped"}, regime="grouped"),
    )

    def check(self, settings: VptSettings, architecture: Architecture) -> None:
        check_range("prompt_length", settings.prompt_length, 1)
        check_range("prompt_init", settings.prompt_init, 0)
        if settings.depth is not None:
            check_range("depth", settings.depth, 1, architecture.image.layers)

    def count(self, settings: VptSettings, architecture: Architecture, *, tasks: int, groups: int) -> int:
        """depth·n·d_v, for each copy."""
        self.check(settings, architecture)
        copies = copies_of(settings.regime, tasks=tasks, groups=groups)
        depth = settings.depth or architecture.image.layers
        return copies * depth * settings.prompt_length * architecture.image.width

    def build(self, settings: VptSettings, backbone: Backbone, problem: Problem) -> TunedModel:
        from mmap_model.methods.vpt.module import VptModel

        self.check(settings, backbone.architecture)
        return VptModel(settings, backbone, problem)


register(Vpt())
