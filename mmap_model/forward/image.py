"""The image tower with prompt tokens [class, prompts, patches] that enter after ``ln_pre`` (paper, eq. 10).

Legend: S prompt sets, B images of a set, P prompt tokens, D width, E embedding.
Attention in this tower ignores order, so the prompts' place among the keys is free.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mmap_model.execution import DEFAULT_EXECUTION, Execution
from mmap_model.forward.block import (
    ALL,
    KEYS,
    QUERIES,
    attend,
    finish,
    normalise,
    project,
    run_layer,
    with_shared,
)
from mmap_model.forward.kernels import linear
from mmap_model.forward.precision import full_precision

if TYPE_CHECKING:
    from open_clip import CLIP
    from open_clip.transformer import ResidualAttentionBlock


def encode_images(
    clip: CLIP,
    pixels: Tensor,
    prompts: Sequence[Tensor],
    *,
    evolve: bool = False,
    execution: Execution = DEFAULT_EXECUTION,
) -> Tensor:
    """Image embeddings before normalisation, fp32 (or fp64): [S, B, E].

    Args:
        clip: the model.
        pixels: normalised, [S, B, 3, H, W].
        prompts: one [S, P, D] per layer, discarded after it.
        evolve: the prompts of the last entry stay: later layers transform them like any other token (shallow
            VPT, MaPLe). If not, layers beyond the last entry have none.
        execution: whether layers are compiled, and whether they keep their input only.
    """
    sets, images = pixels.shape[:2]
    if not has_blocks(clip.visual):
        assert not len(prompts), "methods for such towers have no image prompts"
        # Its pooling computes a row for every place and gives a view of the first, which would keep them all.
        return plain_features(clip.visual, pixels.flatten(0, 1)).clone().view(sets, images, -1)
    x = embed(clip, pixels.flatten(0, 1))
    blocks = clip.visual.transformer.resblocks
    stays = len(prompts) - 1 if evolve and len(prompts) < len(blocks) else None
    for layer, block in enumerate(blocks):
        if layer == stays:
            x = torch.cat([x, prompts[layer].to(x.dtype).repeat_interleave(images, dim=0)], dim=1)
        prompt = prompts[layer] if layer < len(prompts) and layer != stays else None
        x = run_layer(_layer, block, x, prompt, images, layer == len(blocks) - 1, execution=execution)
    return pool(clip, x).view(sets, images, -1)


def has_blocks(visual: nn.Module) -> bool:
    """Whether the image tower is a transformer, which prompts can enter; if not, it is a ModifiedResNet."""
    return hasattr(visual, "transformer")


def plain_features(visual: nn.Module, pixels: Tensor) -> Tensor:
    """Embeddings [N, E] of pixels [N, 3, H, W] by open_clip's forward, in the precision of the weights."""
    kind = next(visual.parameters()).dtype
    return visual(pixels.to(kind)).to(kind)  # type: ignore[no-any-return]


def _layer(
    block: ResidualAttentionBlock, x: Tensor, prompt: Tensor | None, images: int, is_last: bool
) -> Tensor:
    """``run_block`` with a prompt [S, P, D] that is discarded after it."""
    shared = None if prompt is None else keys_of_prompt(block, prompt.to(x.dtype))
    return run_block(block, x, shared, images, is_last)


def keys_of_prompt(block: ResidualAttentionBlock, prompt: Tensor) -> Tensor:
    """Keys and values [S, P, 2·D] of prompts [S, P, D] in one block."""
    return project(block, normalise(block, prompt), KEYS)


def run_block(
    block: ResidualAttentionBlock, x: Tensor, shared: Tensor | None, images: int, is_last: bool
) -> Tensor:
    """One block for tokens [S·B, L, D]; of the last one the class token [S·B, 1, D] only.

    ``shared`` [S, P, 2·D] are keys and values that each of the ``images`` of a set sees besides its own.
    """
    h = normalise(block, x)
    if is_last:
        x, first = x[:, :1], h[:, :1].contiguous()
        queries, own = project(block, first, QUERIES), project(block, h, KEYS)
    else:
        queries, own = project(block, h, ALL).split([h.shape[-1], 2 * h.shape[-1]], dim=-1)
    if shared is not None:
        own = with_shared(shared.to(own.dtype), own.unflatten(0, (-1, images)))
    return finish(block, x, attend(block, queries, own))


def pool(clip: CLIP, x: Tensor) -> Tensor:
    """Embeddings [N, E] of the class tokens, the first of [N, L, D], in the precision of the weights."""
    with full_precision(x):
        return clip.visual.ln_post(x[:, 0].to(clip.visual.proj.dtype)) @ clip.visual.proj  # type: ignore[no-any-return]


def embed(clip: CLIP, pixels: Tensor) -> Tensor:
    """Tokens after ``ln_pre``: [N, 1 + patches, D] of pixels [N, 3, H, W]."""
    visual = clip.visual
    patches = _patches(visual.conv1, pixels.to(visual.conv1.weight.dtype))
    first = visual.class_embedding.to(patches.dtype).expand(patches.shape[0], 1, -1)
    x = torch.cat([first, patches], dim=1) + visual.positional_embedding.to(patches.dtype)
    return visual.ln_pre(x)  # type: ignore[no-any-return]


def _patches(convolution: nn.Conv2d, pixels: Tensor) -> Tensor:
    """Embedded patches [N, patches, D]: a convolution whose stride is its size is a linear layer."""
    side, weight = convolution.kernel_size[0], convolution.weight
    cells = pixels.unflatten(3, (-1, side)).unflatten(2, (-1, side))
    flat = cells.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
    return linear(flat, weight.flatten(1), convolution.bias)


def normalise_entering(clip: CLIP, prompts: Sequence[Tensor]) -> list[Tensor]:
    """Let the first layer's prompts pass ``ln_pre``, as if they had entered beside the patches before it."""
    return [clip.visual.ln_pre(prompts[0]), *prompts[1:]]
