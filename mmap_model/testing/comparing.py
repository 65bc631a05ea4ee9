"""Tensors that must be the same, or as good as."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mmap_model.backbone import Backbone


def same_tensors(first: Mapping[str, Tensor], second: Mapping[str, Tensor], otherwise: str) -> None:
    assert first.keys() == second.keys(), f"{sorted(first)} became {sorted(second)}"
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), f"{name} {otherwise}"


def assert_near(found: Tensor, expected: Tensor, what: str) -> None:
    limit = 1e-9 * max(1.0, expected.abs().max().item())
    apart = (found - expected).abs().max().item()
    assert apart <= limit, f"{what} is {apart:.1e} away from what it is otherwise"


def weights_of(backbone: Backbone) -> dict[str, Tensor]:
    return {key: tensor.clone() for key, tensor in backbone.clip.state_dict().items()}
