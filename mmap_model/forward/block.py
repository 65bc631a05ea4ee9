"""One open_clip residual attention block, taken apart: keys may come from other tokens than queries.

A prompt that is discarded after the layer needs neither query, output projection nor MLP, only keys and
values.

Legend: N sequences, L their tokens, Q tokens that ask, P prompt tokens, X key tokens, S prompt sets, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mmap_model.execution import Execution
from mmap_model.forward.compiled import compiled
from mmap_model.forward.kernels import linear, residual_mlp

if TYPE_CHECKING:
    from open_clip.transformer import ResidualAttentionBlock

QUERIES, KEYS, ALL = slice(0, 1), slice(1, 3), slice(0, 3)
"""Parts of the packed input projection; keys come with their values."""

BESIDE = "beside"
"""Name of a module that a method may put beside the input projection: of normalised tokens and ``part``."""


def run_layer(layer: Callable[..., Tensor], *given: Any, execution: Execution) -> Tensor:
    """``layer(*given)``; by ``execution`` compiled, or with nothing but ``given`` kept for the backward pass.

    A layer that no gradient passes keeps nothing anyway, and a compiler refuses to recompute it.
    """
    if execution.compile == "on":
        layer = compiled(layer)
    passed = any(isinstance(value, Tensor) and value.requires_grad for value in given)
    if execution.checkpoint and passed and torch.is_grad_enabled():
        # Nothing in a layer is random.
        return checkpoint(layer, *given, use_reentrant=False, preserve_rng_state=False)  # type: ignore[no-any-return]
    return layer(*given)


def normalise(block: ResidualAttentionBlock, x: Tensor) -> Tensor:
    """The block's first LayerNorm."""
    return block.ln_1(x)  # type: ignore[no-any-return]


def project(block: ResidualAttentionBlock, normalised: Tensor, part: slice) -> Tensor:
    """``part`` of queries, keys and values of normalised tokens [..., D]: [..., D·parts]."""
    d = normalised.shape[-1]
    rows = slice(part.start * d, part.stop * d)
    projected = linear(normalised, block.attn.in_proj_weight[rows], block.attn.in_proj_bias[rows])
    beside = getattr(block.attn, BESIDE, None)
    return projected if beside is None else projected + beside(normalised, part)


def attend(
    block: ResidualAttentionBlock, queries: Tensor, keys_values: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Multi-head attention before the output projection.

    Args:
        queries: [N, Q, D].
        keys_values: [N, X, 2·D].
        mask: additive, broadcast to [N, heads, Q, X].

    Returns:
        [N, Q, D].
    """
    q, k, v = (
        part.unflatten(-1, (block.attn.num_heads, -1)).transpose(1, 2)
        for part in (queries, *keys_values.chunk(2, dim=-1))
    )
    if mask is not None:
        mask = mask.to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


def finish(block: ResidualAttentionBlock, x: Tensor, attended: Tensor) -> Tensor:
    """Output projection, MLP and both residual connections, for the tokens that asked [..., D]."""
    x = x + linear(attended, block.attn.out_proj.weight, block.attn.out_proj.bias)
    return residual_mlp(block, x)


def with_shared(shared: Tensor, own: Tensor) -> Tensor:
    """Put keys and values that a set shares before those of each of its sequences.

    Args:
        shared: [S, P, 2·D].
        own: [S, B, L, 2·D].

    Returns:
        [S·B, P+L, 2·D].
    """
    expanded = shared.unsqueeze(1).expand(-1, own.shape[1], -1, -1)
    return torch.cat([expanded, own], dim=2).flatten(0, 1)
