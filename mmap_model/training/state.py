"""The in-flight state of a batch as one safetensors record: tensors beside a JSON document, no pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

_DOCUMENT = "document"


def pack(document: dict[str, Any], tensors: Mapping[str, Tensor]) -> bytes:
    """Bytes of a JSON document and tensors; equal contents give equal bytes."""
    assert _DOCUMENT not in tensors
    text = json.dumps(document, sort_keys=True, allow_nan=False).encode()
    record = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    record[_DOCUMENT] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    return bytes(save(record))


def unpack(data: bytes) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What `pack` was given."""
    tensors = load(data)
    document = json.loads(tensors.pop(_DOCUMENT).numpy().tobytes())
    return document, tensors
