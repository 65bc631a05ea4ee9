"""PromptSRC: prompts held to what the frozen CLIP says (Khattak et al., 2023; their code)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from mmap_model.architecture import Architecture, check_known
from mmap_model.class_texts import ClassTexts
from mmap_model.errors import BackboneError, ConfigurationError, nearest
from mmap_model.methods.base import (
    Budget,
    Method,
    Regime,
    check_range,
    check_template,
    check_words,
    register,
)
from mmap_model.methods.problem import Problem
from mmap_model.templates import TEMPLATE_SETS

if TYPE_CHECKING:
    from mmap_model.backbone import Backbone
    from mmap_model.methods.model import TunedModel


@dataclass(frozen=True, kw_only=True)
class PromptsrcSettings:
    """The published settings. The Gaussian mean of the epochs' prompts is ``recipe.average``.

    Attributes:
        prompt_length: n, tokens per prompted layer and tower (>= 1).
        depth: J, first layers that have prompts of their own, or None for all that both towers have.
        prompt_init: standard deviation of the prompts.
        init_words: the first layer's text prompts start at the embeddings of its first tokens; empty: at
            random.
        template: what follows the text prompts.
        text_weight, image_weight: of the distances to the frozen features (>= 0): mean absolute differences.
        logits_weight: of the divergence from the frozen probabilities (>= 0).
        anchors: set of templates whose mean is the frozen text feature, or one text in which ``{}`` is the
            name.
        regime: one set of prompts for all tasks, or ``single``: one for each.
    """

    prompt_length: int = 4
    depth: int | None = 9
    prompt_init: float = 0.02
    init_words: str = "a photo of a"
    template: str = "{}."
    text_weight: float = 25.0
    image_weight: float = 10.0
    logits_weight: float = 1.0
    anchors: str = "clip_60"
    regime: Regime = "multi"


class Promptsrc(Method):
    name = "promptsrc"
    label = "PromptSRC"
    Settings = PromptsrcSettings
    # The few-shot files of six data sets; five others have a mean of 45 and a deviation of 5.
    published = MappingProxyType(
        {
            "lr": 0.0025,
            "batch_size": 4,
            "epochs": 50,
            "average": "gaussian",
            "average_mean": 30.0,
            "average_std": 30.0,
        }
    )
    budgets = (Budget(settings={"regime": "single"}, regime="single"), Budget())

    def check(self, settings: PromptsrcSettings, architecture: Architecture) -> None:
        # SOS, one token of a name, the full stop and the end of text need four places.
        check_range("prompt_length", settings.prompt_length, 1, architecture.context_length - 4)
        for name in ("prompt_init", "text_weight", "image_weight", "logits_weight"):
            check_range(name, getattr(settings, name), 0)
        check_template("template", settings.template)
        check_words("init_words", settings.init_words, settings.prompt_length, architecture)
        if settings.depth is not None:
            check_range("depth", settings.depth, 1, architecture.depth)
        if settings.anchors not in TEMPLATE_SETS and "{}" not in settings.anchors:
            raise ConfigurationError(
                f"unknown set of templates {settings.anchors!r}",
                where="settings.anchors",
                fix=f"{nearest(settings.anchors, TEMPLATE_SETS)}, or write a text with {{}} for the name",
            )

        anchors = TEMPLATE_SETS.get(settings.anchors, (settings.anchors,))
        check_known(architecture, anchors, "settings.anchors")

    def fitted(self, settings: PromptsrcSettings, architecture: Architecture) -> PromptsrcSettings:
        depth = None if settings.depth is None else min(settings.depth, architecture.depth)
        anchors = settings.anchors
        try:
            check_known(architecture, TEMPLATE_SETS.get(anchors, ()), "settings.anchors")
        except BackboneError:  # a reduced CLIP has none of the published texts
            anchors = f"{settings.init_words} {{}}."
        return replace(settings, depth=depth, anchors=anchors)

    def texts(self, settings: PromptsrcSettings, template: str) -> ClassTexts:
        return ClassTexts(settings.template, "settings.template", settings.prompt_length)

    def count(
        self, settings: PromptsrcSettings, architecture: Architecture, *, tasks: int, groups: int
    ) -> int:
        """J·n·(d_l + d_v), for each task in the ``single`` regime."""
        self.check(settings, architecture)
        copies = tasks if settings.regime == "single" else 1
        widths = architecture.text.width + architecture.image.width
        return copies * (settings.depth or architecture.depth) * settings.prompt_length * widths

    def build(self, settings: PromptsrcSettings, backbone: Backbone, problem: Problem) -> TunedModel:
        from mmap_model.methods.promptsrc.module import PromptsrcModel

        self.check(settings, backbone.architecture)
        return PromptsrcModel(settings, backbone, problem)


register(Promptsrc())
