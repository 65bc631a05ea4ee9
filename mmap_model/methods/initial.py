"""Initial values. Every tensor is drawn from a stream of its own, named by seed, method and tensor."""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor


def normal(stream: str, shape: tuple[int, ...], std: float) -> Tensor:
    """N(0, std²), fp32."""
    return torch.randn(shape, generator=_generator(stream)) * std


def linear(stream: str, shape: tuple[int, ...], inputs: int) -> Tensor:
    """U(-1/√inputs, 1/√inputs), fp32: how torch starts the weights and biases of a Linear."""
    unit: Tensor = torch.rand(shape, generator=_generator(stream)) * 2 - 1
    return unit / math.sqrt(inputs)


def uniform(stream: str, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """U(0, 1), fp32, drawn on the device: what is random in a step, not before training."""
    return torch.rand(shape, generator=_generator(stream, device), device=device)


def _generator(stream: str, device: torch.device | str = "cpu") -> torch.Generator:
    seed = int.from_bytes(hashlib.sha256(stream.encode()).digest()[:8], "big") >> 1
    return torch.Generator(device).manual_seed(seed)
