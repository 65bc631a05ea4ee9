"""Tip-Adapter: a cache of labelled images' features (Zhang et al., 2022; code of gaopengcuhk/Tip-Adapter)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mmap_model.architecture import Architecture
from mmap_model.methods.base import Budget, Method, Regime, check_range, register
from mmap_model.methods.problem import Problem
from mmap_model.revisions import added_field

if TYPE_CHECKING:
    from mmap_model.backbone import Backbone
    from mmap_model.methods.model import TunedModel


@dataclass(frozen=True, kw_only=True)
class TipAdapterSettings:
    """α and β are settings to search, or chosen by the labelled images; published code picks them on others.

    Attributes:
        alpha: α, the weight of the cache beside the text (>= 0).
        beta: β, how fast a cached image loses weight with distance (> 0).
        views: augmented views of an image whose mean is its key (>= 1).
        regime: a cache of each task's own images, or ``multi``: one of all tasks' images for all.
        blend: take α and β as ``given``, or by ``support``: for each cell those of a grid that classify its
            labelled images best, each by the text and the keys of the other images; the given ones stay where
            fewer than half of the images have another one of their class and task.
    """

    alpha: float = 1.17
    beta: float = 1.0
    views: int = 10
    regime: Regime = "single"
    blend: Literal["given", "support"] = added_field("given")


class TipAdapter(Method):
    name = "tip_adapter"
    label = "Tip-Adapter"
    Settings = TipAdapterSettings
    takes_templates = True
    any_image_tower = True
    fits = True
    trains = False
    new_classes = "refused"
    budgets = (
        Budget(settings={"regime": "single"}, preferred={"blend": "support"}, regime="single"),
        Budget(settings={"regime": "multi"}, preferred={"blend": "support"}),
    )

    def check(self, settings: TipAdapterSettings, architecture: Architecture) -> None:
        check_range("alpha", settings.alpha, 0)
        check_range("beta", settings.beta, 1e-6)
        check_range("views", settings.views, 1)

    def count(
        self, settings: TipAdapterSettings, architecture: Architecture, *, tasks: int, groups: int
    ) -> int:
        """Nothing: the keys are computed."""
        self.check(settings, architecture)
        return 0

    def build(self, settings: TipAdapterSettings, backbone: Backbone, problem: Problem) -> TunedModel:
        from mmap_model.methods.cache import CacheModel

        self.check(settings, backbone.architecture)
        return CacheModel(
            backbone,
            problem,
            alpha=settings.alpha,
            beta=settings.beta,
            is_chosen=settings.blend == "support",
            views=settings.views,
            is_shared=settings.regime == "multi",
        )


register(TipAdapter())
