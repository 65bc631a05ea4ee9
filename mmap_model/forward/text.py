"""The text tower with prompt tokens [SOS, prompts, words, EOT] (paper, eq. 9), all classes at once.

Legend: S prompt sets, C classes, P prompt tokens, M common words, W rows of Q tokens, Z ends of text in a
row, D width, E embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

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
from mmap_model.forward.class_prompts import ClassPrompts, Embedded
from mmap_model.forward.precision import full_precision

if TYPE_CHECKING:
    from open_clip import CLIP
    from open_clip.transformer import ResidualAttentionBlock


def encode_classes(
    clip: CLIP,
    classes: ClassPrompts,
    prompts: Sequence[Tensor],
    *,
    evolve: bool = False,
    embedded: Embedded | None = None,
    execution: Execution = DEFAULT_EXECUTION,
) -> Tensor:
    """Class embeddings before normalisation, fp32 (or fp64): [S, C, E]; padded classes repeat another one.

    Args:
        clip: the model.
        classes: its class prompts, made for the length P of ``prompts``.
        prompts: one [S, P, D] per layer, discarded after it.
        evolve: the prompts of the last entry stay: later layers transform them like any other token (CoOp,
            MaPLe). If not, layers beyond the last entry have none.
        embedded: the words by ``clip``, if that is not the backbone that ``classes`` were made with.
        execution: whether layers are compiled, and whether they keep their input only.
    """
    x, start_of_text = embedded or Embedded(classes.words, classes.start)
    blocks = clip.transformer.resblocks
    stays = len(prompts) - 1 if evolve and len(prompts) < len(blocks) else None
    evolving = 0
    for layer, block in enumerate(blocks):
        if layer == stays:
            x = torch.cat([_entering(classes, prompts, layer).to(x.dtype), x], dim=1)
            evolving = classes.prompt_length
        prompt = _entering(classes, prompts, layer) if layer < len(prompts) and not evolving else None
        is_last = layer == len(blocks) - 1
        given = (block, x, prompt, start_of_text[layer], classes, evolving, is_last)
        x = run_layer(_layer, *given, execution=execution)
    with full_precision(x):
        pooled: Tensor = clip.ln_final(x.to(clip.text_projection.dtype)) @ clip.text_projection
    return pooled


def _layer(
    block: ResidualAttentionBlock,
    x: Tensor,
    prompt: Tensor | None,
    start: Tensor,
    classes: ClassPrompts,
    evolving: int,
    is_last: bool,
) -> Tensor:
    """One block for tokens [S, evolving prompts + M + W·Q, D]; of the last the ends of text [S, C, D] only.

    ``prompt`` [S, P, D] is discarded after the layer, ``start`` [2·D] are keys and values of SOS.
    """
    sets, d, row_tokens = len(x), x.shape[-1], classes.row_mask.shape[2]
    leading = evolving + classes.common
    h = normalise(block, x)
    if is_last:
        x, h_of_ends = (_gather(tokens[:, leading:], classes.ends) for tokens in (x, h))
        queries, keys_values = project(block, h_of_ends, QUERIES), project(block, h, KEYS)
    else:
        queries, keys_values = project(block, h, ALL).split([d, 2 * d], dim=-1)
    context = [start.to(keys_values.dtype).expand(sets, 1, -1), keys_values[:, evolving:leading]]
    hidden = 0
    if evolving:
        context.insert(0, keys_values[:, :evolving])
    elif prompt is not None:
        context.insert(0, project(block, normalise(block, prompt.to(x.dtype)), KEYS))
    else:
        hidden = classes.prompt_length
    shared = torch.cat(context, dim=1)
    own = with_shared(shared, keys_values[:, leading:].unflatten(1, (-1, row_tokens)))
    if is_last:
        in_rows = _gather(queries, classes.end_classes).view(len(own), -1, d)
        attended = attend(block, in_rows, own, classes.end_mask[..., hidden:])
        attended = _gather(attended.view(sets, -1, d), classes.classes)
    else:
        in_rows = queries[:, leading:].unflatten(1, (-1, row_tokens)).flatten(0, 1)
        attended = attend(block, in_rows, own, classes.row_mask[..., hidden:])
        attended = attended.unflatten(0, (sets, -1)).flatten(1, 2)
        if leading:
            mask = classes.leading_mask if evolving else classes.common_mask
            first = attend(block, queries[:, :leading], shared, mask[:, hidden:])
            attended = torch.cat([first, attended], dim=1)
    return finish(block, x, attended)


def _gather(tokens: Tensor, places: Tensor) -> Tensor:
    """Of tokens [S, n, D] those at places [S, m]: [S, m, D]."""
    return tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[-1]))


def _entering(classes: ClassPrompts, prompts: Sequence[Tensor], layer: int) -> Tensor:
    return prompts[layer] + classes.prompt_positions if layer == 0 else prompts[layer]
