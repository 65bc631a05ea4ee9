"""What a probe records: inner products of the tasks' gradients at its snapshot steps (paper, eq. 8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mmap_model.grouping.affinity import SPACES, GramStack
from mmap_model.methods.probed import Probed

_PREFIX = "gram."


class ProbeRecorder:
    """Gram matrices of R replicates.

    A snapshot is taken before the optimiser's step, at every ``every``-th step counted from the start of
    training, once the warm-up is over: during it the prompt hardly moves from where it began.
    """

    def __init__(self, every: int) -> None:
        self._every = every
        self._steps: list[int] = []
        self._finite: Tensor | None = None
        self._grams: dict[str, list[Tensor]] = {space: [] for space in SPACES}

    def due(self, step: int, *, warm: bool) -> bool:
        """Whether step ``step`` (1-based, over all epochs) is a snapshot; ``warm``: the warm-up is over."""
        return warm and step % self._every == 0

    def record(self, step: int, model: Probed, by_set: Sequence[Tensor]) -> None:
        """Keep a snapshot; leaves the gradient in the model's parameters, like a backward pass.

        Args:
            step: 1-based, over all epochs.
            by_set: gradients of what the model generated, see ``Probed.task_gram``.
        """
        grams = model.task_gram(by_set)
        self._steps.append(step)
        for space in SPACES:
            self._grams[space].append(grams[space])
            finite = torch.isfinite(grams[space]).flatten(1).all(1)
            self._finite = finite if self._finite is None else self._finite & finite

    def finite(self) -> Tensor | None:
        """Whether all that was recorded of a replicate is finite, bool [R]; None before the first snapshot.

        What was restored counts as finite: a replicate that was not had failed before it was saved.
        """
        return self._finite

    def stack(self, replicate: int) -> GramStack:
        """All snapshots of one replicate."""
        tensors = self.state()
        return GramStack(
            tensors[_PREFIX + "steps"].numpy(),
            {space: tensors[_PREFIX + space][:, replicate].numpy() for space in SPACES},
        )

    def state(self) -> dict[str, Tensor]:
        """Steps int64 [n] and Gram matrices fp64 [n, R, T, T]."""
        empty = torch.zeros(0, 1, 1, 1, dtype=torch.float64)
        stacks = {
            space: torch.stack([gram.cpu() for gram in grams]) if grams else empty
            for space, grams in self._grams.items()
        }
        steps = torch.tensor(self._steps, dtype=torch.int64)
        return {_PREFIX + "steps": steps, **{_PREFIX + space: stack for space, stack in stacks.items()}}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave."""
        self._steps = tensors[_PREFIX + "steps"].tolist()
        for space in SPACES:
            self._grams[space] = list(tensors[_PREFIX + space].unbind(0))
