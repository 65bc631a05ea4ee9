"""MLP prompts: Linears instead of MmAP's Kronecker products make both towers' prompts (paper, Table 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mmap_model.architecture import Architecture
from mmap_model.class_texts import ClassTexts
from mmap_model.methods.base import Budget, Method, check_range, module_count, prompt_tokens, register
from mmap_model.methods.problem import Problem

if TYPE_CHECKING:
    from mmap_model.backbone import Backbone
    from mmap_model.methods.model import TunedModel


@dataclass(frozen=True, kw_only=True)
class MlpSettings:
    """The paper names "two MLP layers" and 3.96M; this is the most natural structure of that size.

    Attributes:
        prompt_length: b, rows of a source and tokens of a prompt (>= 1); each tower sees 2b.
        source_dim: width of a source (>= 1).
        source_init: standard deviation of the sources.
        positions: as for MmAP.
        modules: as for MmAP.
    """

    prompt_length: int = 8
    source_dim: int = 256
    source_init: float = 0.02
    positions: Literal["original", "assembled"] = "original"
    modules: Literal["both", "group", "task"] = "both"


class Mlp(Method):
    name = "mlp"
    Settings = MlpSettings
    grouped = True
    budgets = (
        Budget(
            printed="3.96M",
            reading="two groups; two Linears per layer that all modules share, a source of 8 rows per module",
        ),
    )

    def check(self, settings: MlpSettings, architecture: Architecture) -> None:
        check_range("prompt_length", settings.prompt_length, 1)
        check_range("source_dim", settings.source_dim, 1)
        check_range("source_init", settings.source_init, 0)

    def texts(self, settings: MlpSettings, template: str) -> ClassTexts:
        inserted = prompt_tokens(settings.prompt_length, settings.modules)
        return ClassTexts(template, prompts=inserted if settings.positions == "assembled" else 0)

    def count(self, settings: MlpSettings, architecture: Architecture, *, tasks: int, groups: int) -> int:
        """K·(d_l + d_v)·(source_dim + 1) shared by all, and b·source_dim per module."""
        self.check(settings, architecture)
        widths = architecture.text.width + architecture.image.width
        modules = module_count(settings.modules, tasks=tasks, groups=groups)
        shared = architecture.depth * widths * (settings.source_dim + 1)
        return shared + modules * settings.prompt_length * settings.source_dim

    def build(self, settings: MlpSettings, backbone: Backbone, problem: Problem) -> TunedModel:
        from mmap_model.methods.mlp.module import MlpModel

        self.check(settings, backbone.architecture)
        return MlpModel(settings, backbone, problem)


register(Mlp())
