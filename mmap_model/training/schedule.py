"""The learning rate of every epoch."""

from __future__ import annotations

import math

from mmap_model.configuration import Recipe


def learning_rate(recipe: Recipe, epoch: int) -> float:
    """Of epoch 1 to ``recipe.epochs``: warm-up at a constant rate, then the schedule.

    The cosine starts at its peak after the warm-up but spans all epochs, as in the code this recipe comes
    from (Dassl's warm-up scheduler): five epochs with one of warm-up end at 0.35 of the peak, not at zero.
    """
    assert 1 <= epoch <= recipe.epochs
    if epoch <= recipe.warmup_epochs:
        return recipe.warmup_lr
    if recipe.schedule == "constant":
        return recipe.lr
    passed = epoch - recipe.warmup_epochs - 1
    return recipe.lr * (1 + math.cos(math.pi * passed / recipe.epochs)) / 2
