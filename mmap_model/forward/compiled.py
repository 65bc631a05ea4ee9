"""The towers as they are, or compiled: once per process and shape, so that a slot's cells share the wait."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from mmap_model.execution import Execution
from mmap_model.forward.image import encode_images
from mmap_model.forward.text import encode_classes

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

SHAPES = 64
"""Shapes that one process compiles for; with more it goes on without a compiler."""


def image_encoder(execution: Execution) -> Callable[..., Tensor]:
    """``encode_images`` for an execution."""
    return _compiled(encode_images, execution.compile)


def class_encoder(execution: Execution) -> Callable[..., Tensor]:
    """``encode_classes`` for an execution."""
    return _compiled(encode_classes, execution.compile)


@cache
def _compiled(function: Callable[..., Tensor], compile: str) -> Callable[..., Tensor]:
    if compile == "off":
        return function
    config: Any = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, SHAPES)
    if compile == "on":
        return torch.compile(function, dynamic=False)
    replay = torch.compile(function, dynamic=False, mode="reduce-overhead")

    def encode(*args: Any, **options: Any) -> Tensor:
        # A replay writes into the memory of the one before, and some callers keep features across steps.
        return replay(*args, **options).clone()

    return encode
