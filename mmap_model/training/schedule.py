"""The learning rate of every epoch or step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mmap_model.configuration import Recipe


@dataclass(frozen=True)
class Stage:
    """Consecutive epochs with a schedule of their own.

    Attributes:
        number: 0 for the first.
        first: its first epoch, 1-based.
        epochs: their number.
    """

    number: int
    first: int
    epochs: int


def stage_of(shares: Sequence[float], recipe: Recipe, epoch: int) -> Stage:
    """The stage of an epoch, where new ones begin after these ``shares`` of all epochs."""
    ends = [round(share * recipe.epochs) for share in shares] + [recipe.epochs]
    number = next(n for n, end in enumerate(ends) if epoch <= end)
    begun = ends[number - 1] if number else 0
    return Stage(number, begun + 1, ends[number] - begun)


def learning_rate(recipe: Recipe, epoch: int, passed: float = 0.0, stage: Stage | None = None) -> float:
    """Of epoch 1 to ``recipe.epochs``: warm-up at a constant rate, then the schedule.

    The cosine starts at its peak after the warm-up but spans all epochs, as in the code this recipe comes
    from (Dassl's warm-up scheduler): five epochs with one of warm-up end at 0.35 of the peak, not at zero.

    Args:
        recipe: rates and schedule.
        epoch: 1-based.
        passed: share of the epoch that is over, for schedules that move with every step.
        stage: that the epoch is in, if not all epochs are one.
    """
    assert 1 <= epoch <= recipe.epochs
    first, epochs = (stage.first, stage.epochs) if stage else (1, recipe.epochs)
    own = epoch - first + 1
    if own <= recipe.warmup_epochs:
        return recipe.warmup_lr
    if recipe.schedule == "constant":
        return recipe.lr
    behind = own - recipe.warmup_epochs - 1 + (passed if recipe.lr_moves == "step" else 0.0)
    last = recipe.final_lr
    return last + (recipe.lr - last) * (1 + math.cos(math.pi * behind / epochs)) / 2
