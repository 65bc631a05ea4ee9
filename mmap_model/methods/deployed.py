"""Ways of images to their features once nothing is trained any more, as modules of plain torch operations.

Each has ``forward(pixels, task)``: unit features [B, E] of normalised pixels [B, 3, H, W] and of each image's
task, int64 [B], a place in the list of tasks that the module was made for.

Legend: B images, T tasks of the model, E embedding.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmap_model.forward.precision import full_precision


class UnitFeatures(nn.Module):
    """The embeddings of a tower, normalised."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, pixels: Tensor, task: Tensor) -> Tensor:
        embeddings = self.tower(pixels, task)
        with full_precision(embeddings):
            return F.normalize(embeddings, dim=-1)


class OneTowerPerTask(nn.Module):
    """Towers of equal shape, task t having the t-th: every image passes the tower of its task."""

    def __init__(self, towers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.towers = nn.ModuleList(towers)

    def forward(self, pixels: Tensor, task: Tensor) -> Tensor:
        if torch.compiler.is_exporting():  # which images go where must not decide shapes: all pass all towers
            every = torch.stack([tower(pixels, torch.zeros_like(task)) for tower in self.towers])
            return of_task(every, task)
        found: Tensor | None = None
        for place in task.unique().tolist():
            chosen = task == place
            own = self.towers[place](pixels[chosen], task[chosen] * 0)
            found = own.new_empty(len(pixels), own.shape[-1]) if found is None else found
            found[chosen] = own
        assert found is not None, "a batch has images"
        return found


class CustomFinish(nn.Module):
    """The embeddings of a tower, of which the model's own ``finish_images`` makes features."""

    places: Tensor

    def __init__(self, tower: nn.Module, model: Any, tasks: Sequence[int]) -> None:
        super().__init__()
        self.tower, self.model = tower, model
        self.register_buffer("places", torch.tensor(list(tasks), device=_device(tower)))

    def forward(self, pixels: Tensor, task: Tensor) -> Tensor:
        embeddings = self.tower(pixels, task)
        every = embeddings.expand(1, self.model.tasks, -1, -1)
        return of_task(self.model.finish_images(every)[0], self.places[task])


class EveryTask(nn.Module):
    """The model's own ``image_features`` for all T tasks, of which each image's is taken: T times slower."""

    places: Tensor

    def __init__(self, model: Any, tasks: Sequence[int]) -> None:
        super().__init__()
        self.model = model
        backbone = getattr(model, "backbone", None)
        # A backbone is no submodule of its models; here its weights belong to what is written down.
        self.visual = None if backbone is None else backbone.clip.visual
        self.register_buffer("places", torch.tensor(list(tasks), device=_device(self)))

    def forward(self, pixels: Tensor, task: Tensor) -> Tensor:
        every = pixels.expand(1, self.model.tasks, -1, -1, -1, -1)
        return of_task(self.model.image_features(every)[0], self.places[task])


def of_task(every: Tensor, task: Tensor) -> Tensor:
    """Of [T, B, E] what belongs to each image's task [B]: [B, E]."""
    chosen = task[None, :, None].expand(1, -1, every.shape[-1])
    return every.gather(0, chosen)[0]


def without_gradients(module: nn.Module, leave_out: Collection[str] = ()) -> Any:
    """The same module over the same tensors, none of which asks for a gradient; without some submodules."""
    found = copy.copy(module)
    found._parameters = {
        name: None if p is None else nn.Parameter(p.detach(), requires_grad=False)
        for name, p in module._parameters.items()
    }
    found._buffers = dict(module._buffers)
    found._modules = {
        name: None if m is None else without_gradients(m)
        for name, m in module._modules.items()
        if name not in leave_out
    }
    return found


def overrides(model: object, base: type, *names: str) -> bool:
    """Whether the class of ``model`` has one of these methods of its own instead of those of ``base``."""
    return any(getattr(type(model), name) is not getattr(base, name) for name in names)


def _device(module: nn.Module) -> torch.device:
    tensors = (*module.parameters(), *module.buffers())
    return tensors[0].device if tensors else torch.device("cpu")
