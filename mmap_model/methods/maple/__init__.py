"""MaPLe: text prompts and image prompts coupled to them by Linears (Khattak et al., 2023; their code)."""

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
class MapleSettings:
    """All layers prompted, as the paper's 4.8M demands; the published default is depth 9, length 2.

    Attributes:
        prompt_length: n, tokens per prompted layer and tower (>= 1), after SOS in the text.
        depth: J, first layers that have prompts of their own, or None for all that both towers have. Prompts
            are discarded after their layer, those of the last prompted layer run on to the end.
        prompt_init: standard deviation of the text prompts.
        template: what follows the prompts. They stand for the words of ``recipe.template``.
        before_ln_pre: let the first layer's image prompts pass the image tower's ``ln_pre``, as published.
        regime: one set of prompts for all tasks (MaPLe-MT), or ``single``: one per task.
        init_words: the first layer's text prompts start at the embeddings of its first tokens (published:
            ``a photo of a``, up to length 4); empty: at random.
    """

    prompt_length: int = 8
    depth: int | None = None
    prompt_init: float = 0.02
    template: str = "{}."
    before_ln_pre: bool = True
    regime: Regime = "multi"
    init_words: str = added_field("")


class Maple(Method):
    name = "maple"
    label = "MaPLe"
    Settings = MapleSettings
    published = MappingProxyType({"lr": 0.0035, "batch_size": 4, "epochs": 5})
    budgets = (
        Budget(
            settings={"regime": "single"},
            regime="single",
            printed="19.2M",
            reading="four times the rounded 4.8M",
        ),
        Budget(printed="4.8M", reading="12 layers, 8 tokens; 4 to 19 print the same"),
    )

    def check(self, settings: MapleSettings, architecture: Architecture) -> None:
        # SOS, one token of a name, the full stop and the end of text need four places.
        check_range("prompt_length", settings.prompt_length, 1, architecture.context_length - 4)
        check_range("prompt_init", settings.prompt_init, 0)
        check_template("template", settings.template)
        check_words("init_words", settings.init_words, settings.prompt_length, architecture)
        if settings.depth is not None:
            check_range("depth", settings.depth, 1, architecture.depth)

    def texts(self, settings: MapleSettings, template: str) -> ClassTexts:
        return ClassTexts(settings.template, "settings.template", settings.prompt_length)

    def count(self, settings: MapleSettings, architecture: Architecture, *, tasks: int, groups: int) -> int:
        """J·(d_l·d_v + d_v + n·d_l), for each task in the ``single`` regime."""
        self.check(settings, architecture)
        copies = tasks if settings.regime == "single" else 1
        text, image = architecture.text.width, architecture.image.width
        depth = settings.depth or architecture.depth
        return copies * depth * (text * image + image + settings.prompt_length * text)

    def build(self, settings: MapleSettings, backbone: Backbone, problem: Problem) -> TunedModel:
        from mmap_model.methods.maple.module import MapleModel

        self.check(settings, backbone.architecture)
        return MapleModel(settings, backbone, problem)


register(Maple())
