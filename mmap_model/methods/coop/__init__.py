"""CoOp: a learned context in front of the class name (Zhou et al., 2022; code of KaiyangZhou/CoOp)."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from mmap_model.architecture import Architecture
from mmap_model.class_texts import ClassTexts
from mmap_model.methods.base import Budget, Method, Regime, check_range, check_template, check_words, register
from mmap_model.methods.problem import Problem
from mmap_model.revisions import added_field

if TYPE_CHECKING:
    from mmap_model.backbone import Backbone
    from mmap_model.methods.model import TunedModel


@dataclass(frozen=True, kw_only=True)
class CoopSettings:
    """The published defaults; one context for all classes.

    Attributes:
        prompt_length: n, tokens of the context (>= 1), after SOS; the class name moves behind them.
        prompt_init: standard deviation of the context.
        template: what follows the context. The context replaces the words of ``recipe.template``.
        regime: one context for all tasks (CoOp-MT), or ``single``: one per task.
        init_words: the context starts at the embeddings of its first tokens (published: ``a photo of a`` with
            length 4); empty: at random.
    """

    prompt_length: int = 16
    prompt_init: float = 0.02
    template: str = "{}."
    regime: Regime = "multi"
    init_words: str = added_field("")


class Coop(Method):
    name = "coop"
    label = "CoOp"
    Settings = CoopSettings
    any_image_tower = True
    # For 8 and 16 shots; fewer are trained for 100 or 50 epochs.
    published = MappingProxyType({"lr": 0.002, "batch_size": 32, "epochs": 200})
    budgets = (
        Budget(
            settings={"regime": "single"},
            regime="single",
            printed="0.04M",
            reading="four times the rounded 0.01M",
        ),
        Budget(printed="0.01M", reading="16 tokens; 10 to 29 print the same"),
    )

    def check(self, settings: CoopSettings, architecture: Architecture) -> None:
        # SOS, one token of a name, the full stop and the end of text need four places.
        check_range("prompt_length", settings.prompt_length, 1, architecture.context_length - 4)
        check_range("prompt_init", settings.prompt_init, 0)
        check_template("template", settings.template)
        check_words("init_words", settings.init_words, settings.prompt_length, architecture)

    def texts(self, settings: CoopSettings, template: str) -> ClassTexts:
        return ClassTexts(settings.template, "settings.template", settings.prompt_length)

    def count(self, settings: CoopSettings, architecture: Architecture, *, tasks: int, groups: int) -> int:
        """n·d_l, for each task in the ``single`` regime."""
        self.check(settings, architecture)
        copies = tasks if settings.regime == "single" else 1
        return copies * settings.prompt_length * architecture.text.width

    def build(self, settings: CoopSettings, backbone: Backbone, problem: Problem) -> TunedModel:
        from mmap_model.methods.coop.module import CoopModel

        self.check(settings, backbone.architecture)
        return CoopModel(settings, backbone, problem)


register(Coop())
