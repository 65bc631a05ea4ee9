"""Three tasks with unequal class lists, and labelled images of them that nobody drew."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmap_model.backbone import Backbone

CLASSES = (
    ("dog", "alarm_clock", "sea turtle", "cat", "power_outlet"),
    ("dog", "cat"),
    ("string_bean", "The_Eiffel_Tower", "teddy-bear"),
)
"""Class lists of different lengths, names of one to four tokens."""

IMAGES = tuple(2 * len(names) for names in CLASSES)
"""Labelled images of each task: two of every class."""


class NoiseSupport:
    """A ``methods.support.Support``: embeddings of noise, keyed by train seed, task and view."""

    def __init__(self, seeds: Sequence[int], backbone: Backbone) -> None:
        self._seeds, self._backbone = seeds, backbone

    def labels(self) -> list[list[Tensor]]:
        return [[torch.arange(count) // 2 for count in IMAGES] for _ in self._seeds]

    def embeddings(self, views: int) -> list[list[Tensor]]:
        width, kind = self._backbone.architecture.embed_dim, self._backbone.dtype

        def drawn(seed: int, task: int, view: int) -> Tensor:
            generator = torch.Generator().manual_seed(1000 * seed + 100 * task + view)
            return torch.randn(IMAGES[task], width, generator=generator, dtype=torch.float64).to(kind)

        return [
            [torch.stack([drawn(seed, t, v) for v in range(views)]) for t in range(len(CLASSES))]
            for seed in self._seeds
        ]
