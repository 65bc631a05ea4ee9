"""CLIP as Hugging Face's transformers name and configure it, in open_clip's terms. Conversion is exact.

Defaults are those of transformers' ``CLIPTextConfig`` and ``CLIPVisionConfig``: a ``config.json`` may leave
out whatever equals them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mmap_model.errors import BackboneError

Array = npt.NDArray[Any]

ANCHOR = "vision_model.embeddings.patch_embedding.weight"
"""A tensor that every CLIPModel has."""
TOKENS = "text_model.embeddings.token_embedding.weight"

_END_OF_TEXT = 49407
_EPSILON = 1e-5
"""Of LayerNorm, in open_clip."""
_ACTIVATIONS = {"quick_gelu": True, "gelu": False}

_TEXT: Mapping[str, Any] = {
    "vocab_size": 49408,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": _EPSILON,
    "eos_token_id": _END_OF_TEXT,
}
_VISION: Mapping[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 32,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": _EPSILON,
}

_PLAIN = {
    "logit_scale": "logit_scale",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    TOKENS: "token_embedding.weight",
    "text_model.final_layer_norm.weight": "ln_final.weight",
    "text_model.final_layer_norm.bias": "ln_final.bias",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    ANCHOR: "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm.weight": "visual.ln_pre.weight",
    "vision_model.pre_layrnorm.bias": "visual.ln_pre.bias",
    "vision_model.post_layernorm.weight": "visual.ln_post.weight",
    "vision_model.post_layernorm.bias": "visual.ln_post.bias",
}
_TRANSPOSED = {"visual_projection.weight": "visual.proj", "text_projection.weight": "text_projection"}
_BLOCK = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
_TOWERS = {"text_model.encoder.layers.": "transformer", "vision_model.encoder.layers.": "visual.transformer"}
_BUFFERS = frozenset({"text_model.embeddings.position_ids", "vision_model.embeddings.position_ids"})


def is_clip(config: Mapping[str, Any]) -> bool:
    """Whether a ``config.json`` is of a whole CLIP."""
    return config.get("model_type") == "clip" and ("vision_config" in config or "text_config" in config)


def open_clip_config(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The ``model_cfg`` of open_clip that computes the same.

    Args:
        config: content of ``config.json``.
        where: the file, for messages.

    Raises:
        BackboneError: it is not a CLIP's, or asks for something that open_clip's CLIP does not compute.
    """
    if not is_clip(config):
        raise _refusal(where, "model_type", config.get("model_type"), "give the folder of a CLIPModel")
    text, vision = _section(config, "text_config", _TEXT), _section(config, "vision_config", _VISION)
    for name, section in (("text_config", text), ("vision_config", vision)):
        if section["hidden_act"] not in _ACTIVATIONS:
            raise _refusal(
                where, f"{name}.hidden_act", section["hidden_act"], "only quick_gelu and gelu are supported"
            )
    if text["hidden_act"] != vision["hidden_act"]:
        both = f"{vision['hidden_act']}, but text_config.hidden_act is {text['hidden_act']}"
        raise _refusal(where, "vision_config.hidden_act", both, "open_clip's CLIP has one activation")
    if text["eos_token_id"] not in (2, _END_OF_TEXT):  # 2: written by early versions, which pool by argmax
        raise _refusal(where, "text_config.eos_token_id", text["eos_token_id"], f"use {_END_OF_TEXT}")
    if vision["num_channels"] != 3:
        raise _refusal(where, "vision_config.num_channels", vision["num_channels"], "use RGB images")
    return {
        "embed_dim": config.get("projection_dim", 512),
        "quick_gelu": _ACTIVATIONS[text["hidden_act"]],
        "vision_cfg": {
            "image_size": vision["image_size"],
            "patch_size": vision["patch_size"],
            "width": vision["hidden_size"],
            "layers": vision["num_hidden_layers"],
            "head_width": vision["hidden_size"] // vision["num_attention_heads"],
            **_shared(vision),
        },
        "text_cfg": {
            "context_length": text["max_position_embeddings"],
            "vocab_size": text["vocab_size"],
            "width": text["hidden_size"],
            "heads": text["num_attention_heads"],
            "layers": text["num_hidden_layers"],
            **_shared(text),
        },
    }


def open_clip_tensors(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """The same weights under open_clip's names: three matrices joined, projections transposed.

    Tensors that have no counterpart keep their names.
    """
    found: dict[str, Array] = {}
    parts: dict[str, dict[str, Array]] = {}
    for name, tensor in tensors.items():
        if name in _BUFFERS:
            continue
        if name in _TRANSPOSED and tensor.ndim == 2:
            found[_TRANSPOSED[name]] = tensor.T
            continue
        tower = next((t for t in _TOWERS if name.startswith(t)), None)
        if tower is None:
            found[_PLAIN.get(name, name)] = tensor
            continue
        layer, _, inner = name.removeprefix(tower).partition(".")
        module, _, leaf = inner.rpartition(".")
        block = f"{_TOWERS[tower]}.resblocks.{layer}"
        if module in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"):
            parts.setdefault(f"{block}.attn.in_proj_{leaf}", {})[module[-6]] = tensor
        else:
            found[f"{block}.{_BLOCK[module]}.{leaf}" if module in _BLOCK else name] = tensor
    for name, three in parts.items():
        if three.keys() == {"q", "k", "v"}:
            found[name] = np.concatenate([three["q"], three["k"], three["v"]])
    return found


def _section(config: Mapping[str, Any], name: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
    # Early versions wrote a second copy, ``text_config_dict``, which transformers prefers where it is there.
    given = config.get(f"{name}_dict") or config.get(name) or {}
    return {**defaults, **{key: value for key, value in given.items() if value is not None}}


def _shared(section: Mapping[str, Any]) -> dict[str, Any]:
    ratio = section["intermediate_size"] / section["hidden_size"]
    epsilon = float(section["layer_norm_eps"])
    return {
        **({} if ratio == 4 else {"mlp_ratio": ratio}),
        **({} if epsilon == _EPSILON else {"norm_kwargs": {"eps": epsilon}}),
    }


def _refusal(where: str, key: str, value: Any, fix: str) -> BackboneError:
    return BackboneError(f"{key} is {value}", where=where, fix=fix)
