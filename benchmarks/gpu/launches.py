"""Counts the kernels of a training step, by operators that torch runs: launches.json.

    python benchmarks/gpu/launches.py

They do not depend on widths, classes or images, and grow by the same number with every layer: counted on
tiny towers of two and three layers on the CPU under autocast, where the same code runs as on a GPU. There a
library may start more than one kernel for an operator.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from checks import gradients, losses_of
from made import TASKS, Size, cells
from torch.utils._python_dispatch import TorchDispatchMode

from mmap_model.backbone import random_backbone
from mmap_model.methods import Problem, get_method
from mmap_model.training.optimiser import ReplicateOptimiser

HERE = Path(__file__).resolve().parent
FREE = (
    *("view", "_unsafe_view", "reshape", "t", "transpose", "permute", "expand", "slice", "select"),
    *("unsqueeze", "squeeze", "split", "split_with_sizes", "unbind", "alias", "detach", "as_strided"),
    *("empty", "empty_like", "empty_strided", "new_empty", "_local_scalar_dense", "lift_fresh"),
)
"""Operators that start no kernel."""


class Launches(TorchDispatchMode):
    """Counts operators that compute or copy."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += str(func).split(".")[1] not in FREE
        return func(*args, **(kwargs or {}))


def of_a_step(layers: int) -> dict[str, int]:
    """Of MmAP's step in bf16, and of the image tower alone without gradients."""
    size = Size.of(True)
    backbone = random_backbone(quick_gelu=True, layers=layers)
    own = cells(size, seeds=2)
    model: Any = get_method("mmap").build(
        own[0].configuration.settings,
        backbone,
        Problem(
            classes=[["cat", "dog", "sea turtle"]] * len(TASKS),
            template="a photo of a {}.",
            partitions=[cell.configuration.partition for cell in own],
            train_seeds=[1, 2],
        ),
    )
    sgd = ReplicateOptimiser(dict(model.named_parameters()), own[0].configuration.recipe, tasks=len(TASKS))
    side = backbone.image_size
    pixels = torch.randn(2, len(TASKS), 2, 3, side, side)
    labels = torch.zeros(2, len(TASKS), 2, dtype=torch.int64)
    with torch.autocast("cpu", torch.bfloat16):
        model.logits(pixels)  # matrices in bf16 are made once
    with Launches() as step:
        found = gradients(losses_of(model, pixels, labels, "bf16"), model)
        for parameter, gradient in zip(model.parameters(), found, strict=True):
            parameter.grad = gradient
        sgd.update()
    with Launches() as scoring, torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        model.image_features(pixels)
    return {"step": step.count, "scoring": scoring.count}


def main() -> None:
    two, three = of_a_step(2), of_a_step(3)
    found = {
        name: {"per_layer": three[name] - two[name], "besides": 3 * two[name] - 2 * three[name]}
        for name in two
    }
    (HERE / "launches.json").write_text(json.dumps(found, indent=1) + "\n")
    print(found)


if __name__ == "__main__":
    main()
