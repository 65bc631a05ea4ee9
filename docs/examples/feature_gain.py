"""Feature gain: every component of CLIP's image embedding is rescaled and shifted by a trained number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmap_model.architecture import Architecture
from mmap_model.backbone import Backbone
from mmap_model.errors import ShapeError
from mmap_model.forward.precision import full_precision
from mmap_model.methods import Budget, Method, Problem
from mmap_model.methods.base import GroupedRegime, copies_of
from mmap_model.methods.copies import CopiedModel
from mmap_model.methods.initial import normal


@dataclass(frozen=True, kw_only=True)
class FeatureGainSettings:
    """What a study may set and search.

    Attributes:
        gain_init: standard deviation of the gains around one, >= 0.
        shift: train a shift beside the gain.
        regime: one set for all tasks (``multi``), one per task (``single``), or one per group of tasks and
            one per task, whose mean is used (``grouped``).
    """

    gain_init: float = 0.0
    shift: bool = True
    regime: GroupedRegime = "multi"


class FeatureGain(Method):
    name = "feature_gain"
    version = 1
    Settings = FeatureGainSettings
    budgets = tuple(Budget(settings={"regime": r}, regime=r) for r in get_args(GroupedRegime))

    def check(self, settings: FeatureGainSettings, architecture: Architecture) -> None:
        if settings.gain_init < 0:
            raise ShapeError(f"{settings.gain_init} is not allowed", where="gain_init", fix="use 0 or more")

    def count(
        self, settings: FeatureGainSettings, architecture: Architecture, *, tasks: int, groups: int
    ) -> int:
        """E gains and E shifts, for each copy."""
        self.check(settings, architecture)
        copies = copies_of(settings.regime, tasks=tasks, groups=groups)
        return copies * architecture.embed_dim * (2 if settings.shift else 1)

    def build(self, settings: FeatureGainSettings, backbone: Backbone, problem: Problem) -> FeatureGainModel:
        self.check(settings, backbone.architecture)
        return FeatureGainModel(settings, backbone, problem)


class FeatureGainModel(CopiedModel):
    """gain·f + shift of the image embedding f before it is normalised.

    Attributes:
        gain, shift: [R, N, E] for R replicates and N copies, see ``CopiedModel``.
    """

    constant_images = True  # the image tower meets nothing trained: its embeddings may be kept
    gain: nn.Parameter
    shift: nn.Parameter | None

    def __init__(self, settings: FeatureGainSettings, backbone: Backbone, problem: Problem) -> None:
        super().__init__(backbone, problem, name="feature_gain", regime=settings.regime)
        width = backbone.architecture.embed_dim
        self.register_copies("gain", lambda stream: 1 + normal(stream, (width,), settings.gain_init))
        if settings.shift:
            self.register_copies("shift", lambda stream: torch.zeros(width))
        else:
            self.register_parameter("shift", None)

    def image_prompts(self) -> Sequence[Tensor]:
        return ()

    def finish_images(self, embeddings: Tensor) -> Tensor:
        """Unit features [R, T, B, E] of embeddings [R, T, B, E]."""
        with full_precision(embeddings):
            changed = embeddings * self.of_tasks(self.gain).mean(2, keepdim=True)
            if self.shift is not None:
                changed = changed + self.of_tasks(self.shift).mean(2, keepdim=True)
            return F.normalize(changed, dim=-1)
