"""The trainable low-rank changes of CLIP-LoRA.

Legend: R replicates, T tasks, N copies, K blocks of a tower, r rank, d width of a tower, B images, L tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mmap_model.backbone import Backbone
from mmap_model.forward.block import BESIDE
from mmap_model.methods.clip_lora import ClipLoraSettings
from mmap_model.methods.initial import linear, uniform
from mmap_model.methods.layout import ModuleLayout
from mmap_model.methods.problem import Problem
from mmap_model.methods.tuned_backbone import TunedBackbone, Weights

if TYPE_CHECKING:
    from open_clip import CLIP

TOWERS = {"text": "transformer.resblocks", "image": "visual.transformer.resblocks"}


class ClipLoraModel(TunedBackbone):
    """W·x + b + γ·B·A·drop(x) for queries, keys and values of every block; γ = α/√r.

    A starts as U(-1/√d, 1/√d), B at zero: the start is the plain CLIP, where A has no gradient.
    Start of text and words that all classes begin with are computed once in every step: exact without
    dropout; with it all classes share the masks of these tokens.

    Attributes:
        text_down, image_down: A, [R, N, K, 3, r, d].
        text_up, image_up: B, [R, N, K, 3, d, r].
    """

    def __init__(self, settings: ClipLoraSettings, backbone: Backbone, problem: Problem) -> None:
        """See ``Method.build``."""
        super().__init__(backbone, problem, per_task=settings.regime != "multi", trained=lambda name: False)
        self.layout = ModuleLayout.of(problem.groups, problem.tasks) if settings.regime == "grouped" else None
        self._seeds, self._gain = problem.train_seeds, settings.alpha / math.sqrt(settings.rank)
        self._drops = settings.dropout > 0
        shape, rank = backbone.architecture, settings.rank
        for tower, own in (("text", shape.text), ("image", shape.image)):
            sizes = (own.layers, 3, rank, own.width)
            down = [
                self._start(stream, f"{tower}_down", sizes, own.width)
                for stream in problem.streams("clip_lora")
            ]
            up = torch.zeros(self.replicates, len(down[0]), own.layers, 3, own.width, rank)
            for name, value in ((f"{tower}_down", torch.stack(down)), (f"{tower}_up", up)):
                self.register_parameter(name, nn.Parameter(value.to(backbone.device, backbone.dtype)))
        for name, block in _blocks(self._towers[0].clip):
            attention = block.get_submodule("attn")
            attention.add_module(BESIDE, LowRank(name, self._gain, settings.dropout))

    def state_rows(self, name: str, replicate: int) -> list[int] | slice:
        return slice(None) if self.layout is None else self.layout.used(replicate)

    def _start(self, stream: str, name: str, shape: tuple[int, ...], width: int) -> Tensor:
        """A of all copies of a replicate: equal ones, but for groups and tasks that act together."""
        if self.layout is None:
            return linear(f"{stream}/{name}", shape, width).expand(self._copies, *shape)
        return torch.stack(
            [linear(f"{stream}/{module}/{name}", shape, width) for module in self.layout.names]
        )

    def _weights(self) -> list[list[Weights]]:
        found: list[list[Weights]] = []
        for replicate in range(self.replicates):
            found.append([{} for _ in range(self._copies)])
            for copy, own in enumerate(found[-1]):
                for tower, path in TOWERS.items():
                    down, up = self._factors(tower, replicate, copy)
                    for layer, (a, b) in enumerate(zip(down.unbind(), up.unbind(), strict=True)):
                        own[f"clip.{path}.{layer}.attn.{BESIDE}.down"] = a
                        own[f"clip.{path}.{layer}.attn.{BESIDE}.up"] = b
        return found

    def _factors(self, tower: str, replicate: int, copy: int) -> tuple[Tensor, Tensor]:
        """A [K, 3, r, d] and B [K, 3, d, r] that act on one copy; r is 2r where two parts do."""
        down, up = (self.get_parameter(f"{tower}_{part}") for part in ("down", "up"))
        if self.layout is None:
            return down[replicate, copy], up[replicate, copy]
        downs, ups = down.flatten(0, 1), up.flatten(0, 1)
        members = self.layout.members[replicate * self.tasks + copy]
        return torch.cat([downs[m] for m in members], dim=2), torch.cat([ups[m] for m in members], dim=3)

    @property
    def steps_alike(self) -> bool:
        return not self._drops

    def _clip_tensors(self, number: int, part: str = "") -> dict[str, Tensor]:
        """With the changes added to the matrices."""
        tensors = super()._clip_tensors(number, part)
        for tower, path in TOWERS.items():
            down, up = (factor.detach() for factor in self._factors(tower, 0, number))
            for layer, change in enumerate((self._gain * up @ down).flatten(1, 2)):
                name = f"{path}.{layer}.attn.in_proj_weight"
                if name in tensors:
                    tensors[name] = tensors[name] + change
        return tensors

    def _run(self, weights: Weights, given: nn.Module | Tensor, place: tuple[int, int]) -> Tensor:
        replicate, copy = place
        first, whole = self.part
        for _, block in _blocks(self._towers[0].clip):
            beside = block.get_submodule(f"attn.{BESIDE}")
            assert isinstance(beside, LowRank)
            beside.training = self.training
            beside.stream = f"{self._seeds[replicate]}/clip_lora/{copy}/{self.step}"
            beside.images = (
                (given.shape[1], first, whole or given.shape[1]) if isinstance(given, Tensor) else None
            )
        return super()._run(weights, given, place)


class LowRank(nn.Module):
    """γ·B·A·drop(x) for the parts of a packed projection, each with a mask of its own.

    Masks are drawn from streams named by seed, copy, step and place: the same when a layer is computed again,
    and for images whether they come together or in parts.

    Attributes:
        down, up: A [3, r, d] and B [3, d, r] of one copy; put in for a call.
        stream: name of the streams of one forward.
        images: of image tokens [N·B, L, d] the B that come, the number of the first and the whole batch's;
            None for texts.
    """

    down: Tensor
    up: Tensor

    def __init__(self, place: str, gain: float, dropout: float) -> None:
        super().__init__()
        self._place, self._gain, self._dropout = place, gain, dropout
        self.stream: str = ""
        self.images: tuple[int, int, int] | None = None
        for name in ("down", "up"):
            self.register_parameter(name, nn.Parameter(torch.empty(0, device="meta"), requires_grad=False))

    def forward(self, x: Tensor, part: slice) -> Tensor:
        """[..., d·parts] of normalised tokens [..., d]."""
        parts = range(3)[part]
        if not (self.training and self._dropout):
            inner = x @ self.down[part].flatten(0, 1).T
            split = inner.unflatten(-1, (len(parts), -1)).movedim(-2, 0)
        else:
            split = torch.stack([self._dropped(x, number) @ self.down[number].T for number in parts])
        up = self.up[part].transpose(1, 2)
        out = split.flatten(1, -2) @ up.to(split.dtype)
        change: Tensor = self._gain * torch.cat(out.unbind(), dim=-1).unflatten(0, x.shape[:-1])
        return change

    def _dropped(self, x: Tensor, number: int) -> Tensor:
        keep = 1 - self._dropout
        images, first, whole = self.images or (len(x), 0, len(x))
        shape = (len(x) // images, whole, *x.shape[1:])
        drawn = uniform(f"{self.stream}/{self._place}/{number}/{shape}", shape, x.device)
        drawn = drawn[:, first : first + images].flatten(0, 1)
        return x * (drawn < keep) / keep


def _blocks(clip: CLIP) -> Sequence[tuple[str, nn.Module]]:
    return [
        (f"{tower}/{layer}", block)
        for tower, path in TOWERS.items()
        for layer, block in enumerate(clip.get_submodule(path))
    ]
