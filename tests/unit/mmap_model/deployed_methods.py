"""Custom methods whose images take a way of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmap_model.architecture import Architecture
from mmap_model.backbone import Backbone
from mmap_model.forward import encode_images
from mmap_model.methods import Method, Problem
from mmap_model.methods.copies import CopiedModel
from mmap_model.methods.initial import normal


@dataclass(frozen=True, kw_only=True)
class NoSettings:
    """Nothing to choose."""


class _PerTask(Method):
    Settings = NoSettings
    new_classes = "zero_shot"

    def check(self, settings: NoSettings, architecture: Architecture) -> None:
        pass

    def count(self, settings: NoSettings, architecture: Architecture, *, tasks: int, groups: int) -> int:
        return tasks * architecture.embed_dim


class _Shifted(CopiedModel):
    shift: nn.Parameter

    def __init__(self, backbone: Backbone, problem: Problem, name: str) -> None:
        super().__init__(backbone, problem, name=name, per_task=True)
        width = backbone.architecture.embed_dim
        self.register_copies("shift", lambda stream: normal(stream, (width,), 0.1))

    def image_prompts(self) -> Sequence[Tensor]:
        return ()


class CustomFinish(_PerTask):
    """A shift of the image embedding for each task."""

    name = "custom_finish"

    def build(self, settings: NoSettings, backbone: Backbone, problem: Problem) -> _Shifted:
        return _Finished(backbone, problem, self.name)


class _Finished(_Shifted):
    constant_images = True

    def finish_images(self, embeddings: Tensor) -> Tensor:
        return F.normalize(embeddings + self.shift.unsqueeze(2), dim=-1)


class CustomFeatures(_PerTask):
    """The same, of the embedding of an image and its mirror image."""

    name = "custom_features"

    def build(self, settings: NoSettings, backbone: Backbone, problem: Problem) -> _Shifted:
        return _Mirrored(backbone, problem, self.name)


class _Mirrored(_Shifted):
    def image_features(self, pixels: Tensor) -> Tensor:
        sets = pixels.flatten(0, 1)
        both = torch.stack([encode_images(self.backbone.clip, p, ()) for p in (sets, sets.flip(-1))]).mean(0)
        embeddings = both.unflatten(0, (self.replicates, self.tasks))
        return F.normalize(embeddings + self.shift.unsqueeze(2), dim=-1)
