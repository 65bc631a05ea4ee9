"""Tip-Adapter-F: Tip-Adapter whose keys are trained (Zhang et al., 2022; code of gaopengcuhk/Tip-Adapter)."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from mmap_model.architecture import Architecture
from mmap_model.errors import ConfigurationError
from mmap_model.methods.base import Budget, ClassBoundMethod, Regime, check_range, register
from mmap_model.methods.problem import Problem, ProblemSize
from mmap_model.revisions import added_field

if TYPE_CHECKING:
    from mmap_model.backbone import Backbone
    from mmap_model.methods.model import TunedModel


@dataclass(frozen=True, kw_only=True)
class TipAdapterFSettings:
    """As for Tip-Adapter; chosen α and β stay while the keys train, whose labels they would see in the keys.

    Attributes:
        alpha: α, the weight of the cache beside the text (> 0).
        beta: β, how fast a cached image loses weight with distance (> 0).
        views: augmented views of an image whose mean is its key at the start (>= 1).
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


class TipAdapterF(ClassBoundMethod):
    name = "tip_adapter_f"
    label = "Tip-Adapter-F"
    Settings = TipAdapterFSettings
    takes_templates = True
    any_image_tower = True
    fits = True
    new_classes = "refused"
    published = MappingProxyType(
        {
            "optimiser": "adamw",
            "lr": 1e-3,
            "eps": 1e-4,
            "weight_decay": 1e-2,
            "batch_size": 256,
            "epochs": 20,
            "last_batch": "fill",
            "warmup_epochs": 0,
            "lr_moves": "step",
        }
    )
    # On `symbols` chosen α and β leave it behind the given ones, rates searched (benchmarks/cache_blend).
    budgets = (Budget(settings={"regime": "single"}, regime="single"), Budget(settings={"regime": "multi"}))

    def check(self, settings: TipAdapterFSettings, architecture: Architecture) -> None:
        check_range("alpha", settings.alpha, 1e-6)
        check_range("beta", settings.beta, 1e-6)
        check_range("views", settings.views, 1)

    def parameters(self, settings: TipAdapterFSettings, architecture: Architecture, size: ProblemSize) -> int:
        """E for every labelled image of all tasks, in both regimes."""
        self.check(settings, architecture)
        if size.images is None:
            raise ConfigurationError(
                f"{self.name} trains numbers for every labelled image",
                where="--shots",
                fix="say how many classes a task has and how many images of each are labelled",
            )
        return sum(size.images) * architecture.embed_dim

    def build(self, settings: TipAdapterFSettings, backbone: Backbone, problem: Problem) -> TunedModel:
        from mmap_model.methods.cache import TrainedCacheModel

        self.check(settings, backbone.architecture)
        return TrainedCacheModel(
            backbone,
            problem,
            alpha=settings.alpha,
            beta=settings.beta,
            is_chosen=settings.blend == "support",
            views=settings.views,
            is_shared=settings.regime == "multi",
        )


register(TipAdapterF())
