"""IVLP: free prompts in both towers (Khattak et al., 2023; the code of MaPLe, where it is a baseline)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from mmap_model.architecture import Architecture
from mmap_model.class_texts import ClassTexts
from mmap_model.methods.base import (
    Budget,
    GroupedRegime,
    Method,
    check_range,
    check_template,
    check_words,
    copies_of,
    register,
)
from mmap_model.methods.problem import Problem

if TYPE_CHECKING:
    from mmap_model.backbone import Backbone
    from mmap_model.methods.model import TunedModel


@dataclass(frozen=True, kw_only=True)
class IvlpSettings:
    """The published file: two tokens in every layer of both towers.

    Attributes:
        text_length, image_length: tokens of a prompt (>= 1); a task sees two prompts in the ``grouped``
            regime.
        text_depth, image_depth: first layers that have prompts of their own, or None for all. Prompts are
            discarded after their layer, those of the last prompted layer run on to the end.
        prompt_init: standard deviation of the prompts.
        init_words: the first layer's text prompts start at the embeddings of its first tokens; empty: at
            random.
        template: what follows the text prompts. They stand for the first words of ``recipe.template``.
        regime: one set of prompts for all tasks, ``single``: one for each, or ``grouped``: one for each
            group and one for each task, side by side.
    """

    text_length: int = 2
    image_length: int = 2
    text_depth: int | None = None
    image_depth: int | None = None
    prompt_init: float = 0.02
    init_words: str = "a photo"
    template: str = "of a {}."
    regime: GroupedRegime = "multi"


class Ivlp(Method):
    name = "ivlp"
    label = "IVLP"
    Settings = IvlpSettings
    published = MappingProxyType({"lr": 0.0035, "batch_size": 4, "epochs": 5})
    budgets = (
        Budget(settings={"regime": "single"}, regime="single"),
        Budget(),
        Budget(settings={"regime": "grouped"}, regime="grouped"),
    )

    def check(self, settings: IvlpSettings, architecture: Architecture) -> None:
        # SOS, one token of a name, the full stop and the end of text need four places.
        check_range("text_length", settings.text_length, 1, (architecture.context_length - 4) // 2)
        check_range("image_length", settings.image_length, 1)
        check_range("prompt_init", settings.prompt_init, 0)
        for name, tower in (("text_depth", architecture.text), ("image_depth", architecture.image)):
            if getattr(settings, name) is not None:
                check_range(name, getattr(settings, name), 1, tower.layers)
        check_template("template", settings.template)
        check_words("init_words", settings.init_words, settings.text_length, architecture)

    def fitted(self, settings: IvlpSettings, architecture: Architecture) -> IvlpSettings:
        depths = {
            name: min(wanted, tower.layers)
            for name, tower in (("text_depth", architecture.text), ("image_depth", architecture.image))
            if (wanted := getattr(settings, name)) is not None
        }
        return replace(settings, **depths)

    def texts(self, settings: IvlpSettings, template: str) -> ClassTexts:
        prompts = settings.text_length * (2 if settings.regime == "grouped" else 1)
        return ClassTexts(settings.template, "settings.template", prompts)

    def count(self, settings: IvlpSettings, architecture: Architecture, *, tasks: int, groups: int) -> int:
        """J·n·d of both towers, for each copy."""
        self.check(settings, architecture)
        text = (settings.text_depth or architecture.text.layers) * settings.text_length
        image = (settings.image_depth or architecture.image.layers) * settings.image_length
        own = text * architecture.text.width + image * architecture.image.width
        return copies_of(settings.regime, tasks=tasks, groups=groups) * own

    def build(self, settings: IvlpSettings, backbone: Backbone, problem: Problem) -> TunedModel:
        from mmap_model.methods.independent import IndependentPrompts

        shape = backbone.architecture
        self.check(settings, shape)
        return IndependentPrompts(
            backbone,
            problem.worded(settings.template),
            name=self.name,
            regime=settings.regime,
            lengths=(settings.text_length, settings.image_length),
            depths=(settings.text_depth or shape.text.layers, settings.image_depth or shape.image.layers),
            std=settings.prompt_init,
            words=settings.init_words,
        )


register(Ivlp())
