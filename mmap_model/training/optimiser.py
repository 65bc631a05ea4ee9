"""An optimiser for R replicates at once.

Every trained tensor has a leading replicate axis and every update is elementwise, so one optimiser over the
stacked tensors makes exactly the steps of R separate ones; only clipping has to mind the replicate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from mmap_model.configuration import ParameterGroup, Recipe
from mmap_model.errors import ConfigurationError
from mmap_model.training.averaging import EpochAverage
from mmap_model.training.schedule import learning_rate, stage_of

_MODEL, _AVERAGE = "model.", "average."
_STATE = {"momentum_buffer": "momentum.", "exp_avg": "exp_avg.", "exp_avg_sq": "exp_avg_sq.", "step": "step."}
"""What optimisers of torch remember of a tensor, and how that is called in a saved state."""


class ReplicateOptimiser:
    """SGD, Adam or AdamW on all trained tensors (`Recipe`), with their schedule, stages and average.

    Args:
        parameters: by name, each [R, …].
        recipe: which optimiser, learning rates, momentum, weight decay, clipping, loss reduction, average.
        tasks: T.
        stages: shares of the epochs after which ``enter`` is told to train something else.
        enter: told the number of a stage before its first epoch, but for the first stage.

    Raises:
        ConfigurationError: a group of the recipe matches no tensor.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        recipe: Recipe,
        *,
        tasks: int,
        stages: Sequence[float] = (),
        enter: Callable[[int], None] | None = None,
    ) -> None:
        self._parameters = dict(parameters)
        self._recipe, self._stages, self._enter = recipe, stages, enter
        self._share = 1.0 / tasks if recipe.loss_reduction == "mean" else 1.0
        self._factors = list[float]()
        self._torch = self._make()
        self._average = EpochAverage(parameters, recipe) if recipe.average != "last" else None
        self._epoch, self._steps, self._taken = 1, 1, 0

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All that it trains."""
        return list(self._parameters.values())

    @property
    def stage(self) -> int:
        """Number of the stage that the epoch belongs to."""
        return stage_of(self._stages, self._recipe, self._epoch).number

    def start_epoch(self, epoch: int, steps: int = 1) -> float:
        """Begin an epoch of ``steps`` steps; returns the learning rate of the first."""
        stage = stage_of(self._stages, self._recipe, epoch)
        if stage.number and epoch == stage.first:
            assert self._enter is not None, "who has stages is told of them"
            self._enter(stage.number)
            self._torch.state.clear()
        self._epoch, self._steps, self._taken = epoch, steps, 0
        return self._set_rate()

    def end_epoch(self) -> None:
        """Count the end of the epoch in the average, if there is one."""
        if self._average is not None:
            self._average.add(self._epoch)

    def step(self, losses: Tensor, backward: Callable[[Tensor], None] | None = None) -> None:
        """A step down the sum or mean over tasks of ``losses`` [R, T]: ``differentiate`` and ``update``."""
        self.differentiate(losses, backward)
        self.update()

    def differentiate(self, losses: Tensor, backward: Callable[[Tensor], None] | None = None) -> None:
        """Leave the gradient in the parameters; they stay as they are, so this may be tried again.

        ``backward`` may stand in for the backward pass: it must leave the gradient of ``losses.sum()`` in the
        parameters' ``.grad``.
        """
        self._torch.zero_grad(set_to_none=True)
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
        if self._recipe.lr_moves == "step" and self._taken:
            self._set_rate()
        self._torch.step()
        self._taken += 1

    def finite(self) -> Tensor:
        """Whether all parameters of a replicate are finite, bool [R]."""
        checks = [torch.isfinite(p.detach()).flatten(1).all(1) for p in self._parameters.values()]
        return torch.stack(checks).all(0)

    @torch.no_grad()
    def silence(self, idle: Tensor) -> None:
        """Set all that is of replicates ``idle`` (bool [R]) to zero: nothing infinite remains."""
        for name, parameter in self._parameters.items():
            # Filled, not indexed: a mask as an index makes the host wait for the device to count it.
            mask = idle.view(-1, *[1] * (parameter.ndim - 1))
            held = [t for key, t in self._torch.state[parameter].items() if key != "step" and t is not None]
            averages = [self._average.state()[name]] if self._average is not None else []
            for tensor in (parameter, *held, *averages):
                tensor.masked_fill_(mask, 0.0)

    def state(self) -> dict[str, Tensor]:
        """Parameters and what the optimiser and the average remember of them, by name."""
        tensors: dict[str, Tensor] = {_MODEL + name: p for name, p in self._parameters.items()}
        for name, parameter in self._parameters.items():
            held = self._torch.state[parameter]
            tensors |= {
                prefix + name: held[key] for key, prefix in _STATE.items() if held.get(key) is not None
            }
        if self._average is not None:
            tensors |= {_AVERAGE + name: total for name, total in self._average.state().items()}
        return tensors

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave."""
        for name, parameter in self._parameters.items():
            parameter.copy_(tensors[_MODEL + name])
            for key, prefix in _STATE.items():
                if prefix + name in tensors:
                    held = tensors[prefix + name]
                    # Torch counts steps on the host.
                    moved = held.clone() if key == "step" else held.to(parameter.device, parameter.dtype)
                    self._torch.state[parameter][key] = moved
        if self._average is not None:
            self._average.restore({name: tensors[_AVERAGE + name] for name in self._parameters})

    def _make(self) -> torch.optim.Optimizer:
        recipe, groups = self._recipe, list[dict[str, Any]]()
        for chosen in (*recipe.groups, ParameterGroup(match="*")):
            taken = {id(p) for group in groups for p in group["params"]}
            own = {n: p for n, p in self._parameters.items() if fnmatchcase(n, chosen.match)}
            if not own:
                known = ", ".join(self._parameters)
                raise ConfigurationError(
                    f"{chosen.match!r} matches nothing that is trained",
                    where="recipe.groups",
                    fix=f"trained are {known}",
                )
            decay = recipe.weight_decay if chosen.weight_decay is None else chosen.weight_decay
            mine = [p for p in own.values() if id(p) not in taken]
            if mine:
                groups.append({"params": mine, "weight_decay": decay})
                self._factors.append(chosen.lr_factor)
        if recipe.optimiser == "sgd":
            return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum)
        kind = torch.optim.Adam if recipe.optimiser == "adam" else torch.optim.AdamW
        return kind(groups, lr=recipe.lr, eps=recipe.eps)

    def _set_rate(self) -> float:
        stage = stage_of(self._stages, self._recipe, self._epoch)
        rate = learning_rate(self._recipe, self._epoch, self._taken / self._steps, stage)
        for group, factor in zip(self._torch.param_groups, self._factors, strict=True):
            group["lr"] = rate * factor
        return rate

    def _gradients(self) -> list[Tensor]:
        return [p.grad for p in self._parameters.values() if p.grad is not None]


def clip_per_replicate(gradients: Sequence[Tensor], largest: float) -> None:
    """Scale the gradients [R, …] of each replicate so that their joint norm is at most ``largest``."""
    squares = torch.stack([g.flatten(1).square().sum(1) for g in gradients]).sum(0)
    factors = (largest / (squares.sqrt() + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factors.view(-1, *[1] * (gradient.ndim - 1)))
