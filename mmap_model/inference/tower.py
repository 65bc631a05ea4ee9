"""The forward that is exported: from normalised pixels and tasks to logits, without a text tower.

Legend: B images, T tasks, C classes (the most of any task), E embedding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmap_model.forward.precision import full_precision
from mmap_model.methods.model import TunedModel


class Head(nn.Module):
    """The classes of each task.

    Attributes:
        class_features: unit features [T, C, E].
        scale: exp(logit_scale) of each task, [T].
        mask: bool [T, C], False where a task has fewer classes.
    """

    class_features: Tensor
    scale: Tensor
    mask: Tensor

    def __init__(self, class_features: Tensor, scale: Tensor, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("class_features", class_features.contiguous())
        self.register_buffer("scale", scale.contiguous())
        self.register_buffer("mask", mask.contiguous())

    @classmethod
    @torch.no_grad()
    def of(cls, model: TunedModel, tasks: Sequence[int]) -> Head:
        """The head of some tasks of a model of one replicate, computed by its text side, once."""
        features, mask = model.class_features()[0].detach(), model.class_mask
        scale = model.logit_scale().detach().expand(1, model.tasks, 1, 1).reshape(-1)
        chosen = torch.tensor(list(tasks), device=features.device)
        most = int(mask[chosen].sum(1).max())
        return cls(features[chosen, :most], scale[chosen], mask[chosen, :most])

    def forward(self, features: Tensor, task: Tensor) -> Tensor:
        """Logits [B, C] of unit features [B, E] and tasks [B]; -inf beyond a task's classes."""
        with full_precision(features):
            scaled = self.scale[task].unsqueeze(1) * features
            # All tasks' classes at once: the rows of every image's own would fill B·C·E numbers.
            every: Tensor = (scaled @ self.class_features.flatten(0, 1).T).unflatten(1, self.mask.shape)
            places = task[:, None, None].expand(-1, 1, self.mask.shape[1])
            return every.gather(1, places).squeeze(1).masked_fill(~self.mask[task], -torch.inf)

    @classmethod
    def of_rows(cls, rows: Sequence[Tensor], scale: Tensor) -> Head:
        """Of each task's unit features [C, E] and scale [T]."""
        sizes = torch.tensor([len(own) for own in rows], device=scale.device)
        most = max(map(len, rows))
        # Beyond a task's classes stands its last one again: finite, and never seen.
        features = torch.stack([torch.cat([own, own[-1:].expand(most - len(own), -1)]) for own in rows])
        return cls(features, scale, torch.arange(most, device=scale.device) < sizes[:, None])

    def with_rows(self, task: int, rows: Tensor) -> Head:
        """The same with other class features [C, E] of one task."""
        own = [features[real] for features, real in zip(self.class_features, self.mask, strict=True)]
        own[task] = rows
        return Head.of_rows(own, self.scale)


class DeployedClassifier(nn.Module):
    """Image side and head, in plain torch operations: what every format holds or computes.

    Attributes:
        images: ``TunedModel.deployed``.
        head: of the same tasks.
        beside: ``TunedModel.beside_head``.
    """

    def __init__(self, images: nn.Module, head: Head, beside: nn.Module | None = None) -> None:
        super().__init__()
        self.images, self.head, self.beside = images, head, beside

    @classmethod
    def of(cls, model: TunedModel, tasks: Sequence[int]) -> DeployedClassifier:
        """Of some tasks of a model of one replicate."""
        return cls(model.deployed(tasks), Head.of(model, tasks), model.beside_head(tasks)).eval()

    def forward(self, pixels: Tensor, task: Tensor) -> Tensor:
        """Logits [B, C] of normalised pixels [B, 3, H, W] and places of tasks, int64 [B]."""
        return self.of_features(self.images(pixels, task), task)

    def of_features(self, features: Tensor, task: Tensor) -> Tensor:
        """Logits [B, C] of unit features [B, E] and places of tasks, int64 [B]."""
        logits: Tensor = self.head(features, task)
        return logits if self.beside is None else logits + self.beside(features, task)
