"""The text tower with prompt tokens [SOS, prompts, words, EOT] (paper, eq. 9), all classes at once.

Legend: S prompt sets, C classes, P prompt tokens, M common words, W rows of Q tokens, Z ends of text in a
row, D width, E embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mmap_model.forward.block import ALL, KEYS, attend, finish, normalise, project, with_shared
from mmap_model.forward.class_prompts import ClassPrompts
from mmap_model.forward.precision import full_precision

if TYPE_CHECKING:
    from open_clip import CLIP


def encode_classes(clip: CLIP, classes: ClassPrompts, prompts: Sequence[Tensor]) -> Tensor:
    """Class embeddings before normalisation, fp32 (or fp64): [S, C, E]; padded classes repeat another one.

    Args:
        clip: the frozen model.
        classes: its class prompts, made for the length P of ``prompts``.
        prompts: one [S, P, D] per layer, discarded after it; layers beyond the last entry have none.
    """
    x = classes.words
    sets, common, d = len(x), classes.common, x.shape[-1]
    row_tokens = classes.row_mask.shape[2]
    blocks = clip.transformer.resblocks
    for layer, block in enumerate(blocks):
        queries, keys_values = project(block, normalise(block, x), ALL).split([d, 2 * d], dim=-1)
        start = classes.start[layer].to(keys_values.dtype).expand(sets, 1, -1)
        context = [start, keys_values[:, :common]]
        if layer < len(prompts):
            prompt = prompts[layer] + classes.prompt_positions if layer == 0 else prompts[layer]
            context.insert(0, project(block, normalise(block, prompt.to(x.dtype)), KEYS))
            hidden = 0
        else:
            hidden = classes.prompt_length
        shared = torch.cat(context, dim=1)
        own = with_shared(shared, keys_values[:, common:].unflatten(1, (-1, row_tokens)))
        row_queries = queries[:, common:].unflatten(1, (-1, row_tokens)).flatten(0, 1)
        if layer == len(blocks) - 1:
            ends = classes.ends[..., None].expand(-1, -1, d)
            rows = x[:, common:].unflatten(1, (-1, row_tokens)).flatten(0, 1)
            attended = attend(block, row_queries.gather(1, ends), own, classes.end_mask[..., hidden:])
            x = finish(block, rows.gather(1, ends), attended)
        else:
            attended = attend(block, row_queries, own, classes.row_mask[..., hidden:])
            attended = attended.unflatten(0, (sets, -1)).flatten(1, 2)
            if common:
                first = attend(block, queries[:, :common], shared, classes.common_mask[:, hidden:])
                attended = torch.cat([first, attended], dim=1)
            x = finish(block, x, attended)
    x = x.unflatten(0, (sets, -1)).flatten(1, 2)
    x = x.gather(1, classes.classes[..., None].expand(-1, -1, d))
    with full_precision(x):
        pooled: Tensor = clip.ln_final(x.to(clip.text_projection.dtype)) @ clip.text_projection
    return pooled
