"""SGD for R replicates at once.

Every trained tensor has a leading replicate axis and every update is elementwise, so one optimiser over the
stacked tensors makes exactly the steps of R separate ones; only clipping has to mind the replicate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mmap_model.configuration import Recipe
from mmap_model.training.schedule import learning_rate

_MODEL, _MOMENTUM = "model.", "momentum."


class ReplicateSgd:
    """SGD with momentum and weight decay on all trained tensors (`Recipe`).

    Args:
        parameters: by name, each [R, …].
        recipe: learning rates, momentum, weight decay, clipping, loss reduction.
        tasks: T.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], recipe: Recipe, *, tasks: int) -> None:
        self._parameters = dict(parameters)
        self._recipe = recipe
        self._share = 1.0 / tasks if recipe.loss_reduction == "mean" else 1.0
        self._sgd = torch.optim.SGD(
            self._parameters.values(),
            lr=recipe.lr,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
        )

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All that it trains."""
        return list(self._parameters.values())

    def start_epoch(self, epoch: int) -> float:
        """Set and return the learning rate of an epoch."""
        rate = learning_rate(self._recipe, epoch)
        for group in self._sgd.param_groups:
            group["lr"] = rate
        return rate

    def step(self, losses: Tensor, backward: Callable[[Tensor], None] | None = None) -> None:
        """A step down the sum or mean over tasks of ``losses`` [R, T]: ``differentiate`` and ``update``."""
        self.differentiate(losses, backward)
        self.update()

    def differentiate(self, losses: Tensor, backward: Callable[[Tensor], None] | None = None) -> None:
        """Leave the gradient in the parameters; they stay as they are, so this may be tried again.

        ``backward`` may stand in for the backward pass: it must leave the gradient of ``losses.sum()`` in the
        parameters' ``.grad``.
        """
        self._sgd.zero_grad(set_to_none=True)
        if backward is None:
            (losses.sum() * self._share).backward()
        else:
            backward(losses)
            for gradient in self._gradients():
                gradient.mul_(self._share)

    def update(self) -> None:
        """Clip the gradients and move the parameters."""
        if self._recipe.clip_norm is not None:
            clip_per_replicate(self._gradients(), self._recipe.clip_norm)
        self._sgd.step()

    def finite(self) -> Tensor:
        """Whether all parameters of a replicate are finite, bool [R]."""
        checks = [torch.isfinite(p.detach()).flatten(1).all(1) for p in self._parameters.values()]
        return torch.stack(checks).all(0)

    @torch.no_grad()
    def silence(self, idle: Tensor) -> None:
        """Set parameters and momentum of replicates ``idle`` (bool [R]) to zero: nothing infinite remains."""
        for parameter in self._parameters.values():
            # Filled, not indexed: a mask as an index makes the host wait for the device to count it.
            mask = idle.view(-1, *[1] * (parameter.ndim - 1))
            parameter.masked_fill_(mask, 0.0)
            momentum = self._sgd.state[parameter].get("momentum_buffer")
            if momentum is not None:
                momentum.masked_fill_(mask, 0.0)

    def state(self) -> dict[str, Tensor]:
        """Parameters and momentum, by name."""
        tensors: dict[str, Tensor] = {_MODEL + name: p for name, p in self._parameters.items()}
        for name, parameter in self._parameters.items():
            momentum = self._sgd.state[parameter].get("momentum_buffer")
            if momentum is not None:
                tensors[_MOMENTUM + name] = momentum
        return tensors

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave."""
        for name, parameter in self._parameters.items():
            parameter.copy_(tensors[_MODEL + name])
            if _MOMENTUM + name in tensors:
                momentum = tensors[_MOMENTUM + name].to(parameter.device, parameter.dtype)
                self._sgd.state[parameter]["momentum_buffer"] = momentum

    def _gradients(self) -> list[Tensor]:
        return [p.grad for p in self._parameters.values() if p.grad is not None]


def clip_per_replicate(gradients: Sequence[Tensor], largest: float) -> None:
    """Scale the gradients [R, …] of each replicate so that their joint norm is at most ``largest``."""
    squares = torch.stack([g.flatten(1).square().sum(1) for g in gradients]).sum(0)
    factors = (largest / (squares.sqrt() + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factors.view(-1, *[1] * (gradient.ndim - 1)))
