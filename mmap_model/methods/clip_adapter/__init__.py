"""CLIP-Adapter: a bottleneck on the image embedding (Gao et al., 2024; code of gaopengcuhk/CLIP-Adapter)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from mmap_model.architecture import Architecture
from mmap_model.errors import ShapeError
from mmap_model.methods.base import Budget, Method, check_range, nearest_divisor, register
from mmap_model.methods.problem import Problem
from mmap_model.revisions import added_field

if TYPE_CHECKING:
    from mmap_model.backbone import Backbone
    from mmap_model.methods.model import TunedModel


@dataclass(frozen=True, kw_only=True)
class ClipAdapterSettings:
    """The published adapter with biases, which the paper's 0.53M demands (the published code has none).

    Attributes:
        reduction: embedding width over hidden width; a divisor of the former.
        ratio: share of the adapted embedding in the sum with the original, 0 < ratio <= 1.
        biases: of both Linears.
        shared: one adapter for all tasks instead of one per task.
        regime: ``grouped``: one adapter per group and one per task, whose mean is taken; None: as ``shared``
            says.
    """

    reduction: int = 4
    ratio: float = 0.2
    biases: bool = True
    shared: bool = False
    regime: Literal["grouped"] | None = added_field(None)


class ClipAdapter(Method):
    name = "clip_adapter"
    label = "CLIP-Adapter"
    Settings = ClipAdapterSettings
    takes_templates = True
    any_image_tower = True
    budgets = (
        Budget(printed="0.53M", reading="one adapter per task, with biases"),
        Budget(settings={"regime": "grouped"}, regime="grouped"),
    )

    def check(self, settings: ClipAdapterSettings, architecture: Architecture) -> None:
        check_range("reduction", settings.reduction, 1, architecture.embed_dim)
        if architecture.embed_dim % settings.reduction:
            raise ShapeError(
                f"{settings.reduction} does not divide the embedding width {architecture.embed_dim}",
                where="reduction",
                fix="use a divisor, such as 4",
            )
        if not 0 < settings.ratio <= 1:
            raise ShapeError(
                f"{settings.ratio} is not allowed",
                where="ratio",
                fix="use more than 0 and at most 1",
            )
        if settings.shared and settings.regime is not None:
            raise ShapeError(
                "one adapter for all tasks leaves none for groups", where="shared", fix="use shared: false"
            )

    def fitted(self, settings: ClipAdapterSettings, architecture: Architecture) -> ClipAdapterSettings:
        return replace(settings, reduction=nearest_divisor(settings.reduction, architecture.embed_dim))

    def count(
        self, settings: ClipAdapterSettings, architecture: Architecture, *, tasks: int, groups: int
    ) -> int:
        """Two Linears E → E/reduction → E, for each task unless shared, and for each group that has one."""
        self.check(settings, architecture)
        width = architecture.embed_dim
        hidden = width // settings.reduction
        biases = hidden + width if settings.biases else 0
        copies = 1 if settings.shared else tasks + (groups if settings.regime else 0)
        return copies * (2 * width * hidden + biases)

    def build(self, settings: ClipAdapterSettings, backbone: Backbone, problem: Problem) -> TunedModel:
        from mmap_model.methods.clip_adapter.module import ClipAdapterModel

        self.check(settings, backbone.architecture)
        return ClipAdapterModel(settings, backbone, problem)


register(ClipAdapter())
