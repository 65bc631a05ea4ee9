"""The fingerprint of a CLIP: a hash over what decides its features. Imports neither torch nor open_clip."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from mmap_model.architecture import Architecture
from mmap_model.preprocessing import Preprocessing


def fingerprint(
    architecture: Architecture,
    config: Mapping[str, Any],
    *,
    preprocessing: Preprocessing,
    weights: Mapping[str, np.ndarray[Any, Any]],
) -> str:
    """32 hexadecimal digits of a SHA-256 over what decides the features: shape, activation, pixels, weights.

    Weights count by their values in float32: a CLIP has one fingerprint whatever file or name it came from.
    """
    described = _described(architecture, config, preprocessing)
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for name in sorted(weights):
        _add(digest, name, weights[name])
    return digest.hexdigest()[:32]


def fingerprint_groups(
    architecture: Architecture,
    config: Mapping[str, Any],
    preprocessing: Preprocessing,
    weights: Mapping[str, np.ndarray[Any, Any]],
) -> dict[str, str]:
    """Hashes of the parts that ``fingerprint`` puts together, 16 digits each."""
    described = _described(architecture, config, preprocessing)
    shape = {name: described.pop(name) for name in ("architecture", "quick_gelu", "options")}
    found = {
        name: hashlib.sha256(json.dumps(part, sort_keys=True).encode())
        for name, part in (("shape or activation", shape), ("preprocessing", described))
    }
    for name in sorted(weights):
        _add(found.setdefault(_group_of(name), hashlib.sha256()), name, weights[name])
    return {name: digest.hexdigest()[:16] for name, digest in found.items()}


def _group_of(tensor: str) -> str:
    if tensor == "logit_scale":
        return tensor
    tower = "image" if tensor.startswith("visual.") else "text"
    return (
        f"{tower} blocks"
        if "resblocks" in tensor or "visual.layer" in tensor
        else f"{tower} embeddings or projection"
    )


def _described(
    architecture: Architecture, config: Mapping[str, Any], preprocessing: Preprocessing
) -> dict[str, Any]:
    """What decides the features besides the weights."""
    shape = asdict(architecture)
    for name in ("model", "unused_tokens"):
        del shape[name]
    shape["image"] = shape.pop("visual")  # as it was called in the first fingerprints
    return {
        "architecture": shape,
        "quick_gelu": bool(config.get("quick_gelu", False)),
        "options": {
            f"{tower}.{key}": config.get(tower, {}).get(key)
            for tower in ("vision_cfg", "text_cfg")
            for key in ("norm_kwargs", "act_kwargs")
        },
        **preprocessing.described(),
    }


def _add(digest: hashlib._Hash, name: str, weight: np.ndarray[Any, Any]) -> None:
    array = np.ascontiguousarray(weight, dtype=np.float32)
    digest.update(f"\n{name} {array.size}\n".encode())
    digest.update(array.reshape(-1).view(np.uint8).data)
