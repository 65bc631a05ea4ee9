"""The shapes of the towers of a CLIP, as open_clip builds them; no torch, no open_clip."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

Shapes = dict[str, tuple[int, ...]]
"""Of tensors, by their names in open_clip."""

STRIDE = 32
"""Pixels along a side for each cell of a ResNet's last feature map."""


@dataclass(frozen=True, kw_only=True)
class Tower:
    """One transformer: ``width`` D, ``layers`` K, ``heads``, hidden width of its MLPs."""

    width: int
    layers: int
    heads: int
    hidden: int

    @property
    def parameters(self) -> int:
        """Of all blocks: attention, MLP, two LayerNorms, biases included."""
        d, h = self.width, self.hidden
        return self.layers * (4 * d * d + 4 * d + 2 * d * h + h + d + 4 * d)

    def shapes(self, prefix: str) -> Shapes:
        """Of every parameter of all blocks, by its name in open_clip, which begins with ``prefix``."""
        d, h = self.width, self.hidden
        found: Shapes = {}
        for layer in range(self.layers):
            block = f"{prefix}.resblocks.{layer}"
            found |= norm(f"{block}.ln_1", d) | norm(f"{block}.ln_2", d)
            found |= {f"{block}.attn.in_proj_weight": (3 * d, d), f"{block}.attn.in_proj_bias": (3 * d,)}
            for name, rows, columns in (("attn.out_proj", d, d), ("mlp.c_fc", h, d), ("mlp.c_proj", d, h)):
                found |= {f"{block}.{name}.weight": (rows, columns), f"{block}.{name}.bias": (rows,)}
        return found


@dataclass(frozen=True, kw_only=True)
class ResNetTower:
    """CLIP's ModifiedResNet (Radford et al., 2021, section 2.4): a stem, four stages, pooling by attention.

    Attributes:
        width: channels of the stem's output.
        layers: blocks of each stage.
        heads: of the attention that pools.
    """

    width: int
    layers: tuple[int, ...]
    heads: int

    def parameters(self, patches: int, embed_dim: int) -> int:
        """Of the whole tower, without running means and variances."""
        shapes = self.shapes("", patches, embed_dim)
        return sum(prod(shape) for name, shape in shapes.items() if ".running_" not in name)

    def shapes(self, prefix: str, patches: int, embed_dim: int) -> Shapes:
        """Of every parameter, running mean and variance, by its name in open_clip.

        Args:
            prefix: begins the names.
            patches: cells of the last feature map.
            embed_dim: E.
        """
        half, pooled = self.width // 2, 32 * self.width
        found: Shapes = {}
        for number, (inputs, outputs) in enumerate(((3, half), (half, half), (half, self.width)), 1):
            found[f"{prefix}conv{number}.weight"] = (outputs, inputs, 3, 3)
            found |= _batch_norm(f"{prefix}bn{number}", outputs)
        inputs = self.width
        for stage, blocks in enumerate(self.layers):
            planes = self.width * 2**stage
            for block in range(blocks):
                found |= _bottleneck(f"{prefix}layer{stage + 1}.{block}", inputs, planes, stage and not block)
                inputs = 4 * planes
        pool = f"{prefix}attnpool"
        found[f"{pool}.positional_embedding"] = (patches + 1, pooled)
        for name, rows in (("k_proj", pooled), ("q_proj", pooled), ("v_proj", pooled), ("c_proj", embed_dim)):
            found |= {f"{pool}.{name}.weight": (rows, pooled), f"{pool}.{name}.bias": (rows,)}
        return found


def norm(name: str, width: int) -> Shapes:
    """Of a LayerNorm."""
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _batch_norm(name: str, width: int) -> Shapes:
    return norm(name, width) | {f"{name}.running_mean": (width,), f"{name}.running_var": (width,)}


def _bottleneck(name: str, inputs: int, planes: int, strided: bool | int) -> Shapes:
    outputs = 4 * planes
    found: Shapes = {f"{name}.conv1.weight": (planes, inputs, 1, 1)}
    found |= {f"{name}.conv2.weight": (planes, planes, 3, 3), f"{name}.conv3.weight": (outputs, planes, 1, 1)}
    for number, width in ((1, planes), (2, planes), (3, outputs)):
        found |= _batch_norm(f"{name}.bn{number}", width)
    if strided or inputs != outputs:
        found[f"{name}.downsample.0.weight"] = (outputs, inputs, 1, 1)
        found |= _batch_norm(f"{name}.downsample.1", outputs)
    return found
