"""Layers compiled by torch: one piece of code for all layers of a tower, so that a process waits once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

KINDS = 64
"""Of layers (shapes, first or last, with gradients or without) that a process compiles; others stay."""


@cache
def compiled(layer: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``layer`` compiled for each shape that it meets; its block is an argument, so blocks share the code."""
    config: Any = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, KINDS)
    return torch.compile(layer, dynamic=False)
