"""Where mixed precision ends: features, logits and losses are computed in the precision of the weights."""

from __future__ import annotations

import torch
from torch import Tensor


def full_precision(like: Tensor) -> torch.autocast:
    """A context without autocast on the device of ``like``: bf16 logits near 25 are 0.125 apart, they tie."""
    return torch.autocast(like.device.type, enabled=False)
