"""open_clip's two towers with tokens inserted at every layer, and the export of the trained model.

B images or captions, L tokens, N inserted tokens, D width, K layers. Inserted tokens stand after the class
token or the start of text, carry no position, and are discarded after each layer.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from open_clip import CLIP
from safetensors.torch import save_file
from torch import Tensor

from mmap_model.symbols.weights import CLIP_DIR

EOT, VOCABULARY = 49407, 49408


def config() -> dict:
    return json.loads((CLIP_DIR / "open_clip_config.json").read_text())["model_cfg"]


def build(vocabulary: int) -> CLIP:
    """The model of the shipped configuration, with a token table of `vocabulary` rows."""
    cfg = config()
    return CLIP(cfg["embed_dim"], cfg["vision_cfg"], {**cfg["text_cfg"], "vocab_size": vocabulary})


def _with_inserted(x_BLD: Tensor, inserted: Tensor | None) -> Tensor:
    if inserted is None:
        return x_BLD
    inserted = inserted.to(x_BLD.dtype)
    if inserted.ndim == 2:
        inserted = inserted.expand(len(x_BLD), -1, -1)
    return torch.cat([x_BLD[:, :1], inserted, x_BLD[:, 1:]], 1)


def _without_inserted(x_BLD: Tensor, inserted: Tensor | None) -> Tensor:
    return x_BLD if inserted is None else torch.cat([x_BLD[:, :1], x_BLD[:, 1 + inserted.shape[-2] :]], 1)


def encode_images(
    model: CLIP, pixels: Tensor, inserted: Sequence[Tensor] | None = None, keep: int | Tensor | None = None
) -> Tensor:
    """Unit features [B, E] of pixels [B, 3, H, W], of only `keep` random patches or those [B, N] if given.

    `inserted` is K×[N, D] or K×[B, N, D].
    """
    visual = model.visual
    x = visual.conv1(pixels).flatten(2).transpose(1, 2)
    x = x + visual.positional_embedding[1:].to(x.dtype)
    if keep is not None:
        chosen = torch.rand(x.shape[:2]).argsort(1)[:, :keep] if isinstance(keep, int) else keep
        x = x.gather(1, chosen[..., None].expand(-1, -1, x.shape[2]))
    first = (visual.class_embedding + visual.positional_embedding[0]).to(x.dtype)
    x = visual.ln_pre(torch.cat([first.expand(len(x), 1, -1), x], 1))
    for layer, block in enumerate(visual.transformer.resblocks):
        tokens = inserted[layer] if inserted is not None else None
        x = _without_inserted(block(_with_inserted(x, tokens)), tokens)
    return torch.nn.functional.normalize((visual.ln_post(x[:, 0]) @ visual.proj).float(), dim=-1)


def encode_texts(model: CLIP, ids: Tensor, ends: Tensor, inserted: Sequence[Tensor] | None = None) -> Tensor:
    """Unit features [B, E] of token ids [B, L] (rows of the model's own table), pooled at `ends` [B]."""
    return encode_embedded(model, model.token_embedding(ids), ends, inserted)


def encode_embedded(
    model: CLIP, words: Tensor, ends: Tensor, inserted: Sequence[Tensor] | None = None
) -> Tensor:
    """The same of word embeddings [B, L, D]."""
    x = words + model.positional_embedding[: words.shape[1]]
    count = inserted[0].shape[-2] if inserted is not None else 0
    mask = torch.full((words.shape[1] + count,) * 2, float("-inf"), device=x.device).triu_(1)
    for layer, block in enumerate(model.transformer.resblocks):
        tokens = inserted[layer] if inserted is not None else None
        x = _without_inserted(block(_with_inserted(x, tokens), attn_mask=mask.to(x.dtype)), tokens)
    pooled = x.gather(1, ends[:, None, None].expand(-1, 1, x.shape[2]))[:, 0]
    return torch.nn.functional.normalize((model.ln_final(pooled) @ model.text_projection).float(), dim=-1)


def export(weights: Mapping[str, Tensor], vocabulary: list[int], directory: Path) -> Path:
    """Write fp16 weights for open_clip's `local-dir:`; rows of tokens outside `vocabulary` are zero."""
    state = {name: tensor.detach().half().contiguous() for name, tensor in weights.items()}
    table = torch.zeros(VOCABULARY, state["token_embedding.weight"].shape[1], dtype=torch.float16)
    table[torch.tensor(vocabulary)] = state["token_embedding.weight"]
    state["token_embedding.weight"] = table
    target = directory / "open_clip_model.safetensors"
    save_file(state, target)
    target.chmod(0o644)  # safetensors lets nobody else read
    return target
