"""Averages of what is trained over the ends of epochs.

Every tensor has a leading replicate axis, and each replicate's average is its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmap_model.configuration import Recipe


class EpochAverage:
    """Σ_e w_e·θ_e over the ends of all epochs, Σ w_e = 1; put in place of θ after the last one.

    Args:
        parameters: by name.
        recipe: ``average``: w_e all equal (``mean``), or w_e ∝ exp(-(e - μ)²/(2σ²)) (``gaussian``) with μ
            ``average_mean`` and σ ``average_std``.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], recipe: Recipe) -> None:
        assert recipe.average != "last", "there is nothing to average of the last epoch alone"
        self._parameters, self._epochs = dict(parameters), recipe.epochs
        self._weights = epoch_weights(recipe)
        self._total = {name: torch.zeros_like(p.detach()) for name, p in parameters.items()}

    @torch.no_grad()
    def add(self, epoch: int) -> None:
        """Count the end of an epoch; after the last one parameters become the average."""
        for name, parameter in self._parameters.items():
            self._total[name] += self._weights[epoch - 1] * parameter
            if epoch == self._epochs:
                parameter.copy_(self._total[name])

    def state(self) -> dict[str, Tensor]:
        """The sums so far, by name."""
        return dict(self._total)

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what ``state`` gave."""
        for name, total in self._total.items():
            total.copy_(tensors[name])


def epoch_weights(recipe: Recipe) -> list[float]:
    """w_e of epochs 1 to ``recipe.epochs``; their sum is 1."""
    epochs = range(1, recipe.epochs + 1)
    raw = [1.0] * recipe.epochs
    if recipe.average == "gaussian":
        assert recipe.average_mean is not None and recipe.average_std is not None, "checked by the recipe"
        distances = [(epoch - recipe.average_mean) ** 2 / (2 * recipe.average_std**2) for epoch in epochs]
        nearest = min(distances)  # so that the largest weight is 1 before normalisation, however far μ lies
        raw = [math.exp(nearest - distance) for distance in distances]
    return [weight / sum(raw) for weight in raw]
