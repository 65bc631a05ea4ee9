"""Which replicates of a batch go on: one whose numbers are not finite fails, the others are left alone.

Legend: R replicates, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmap_model.data.transfer import to_device
from mmap_model.training.metrics import TaskPredictions, broken_logits
from mmap_model.training.optimiser import ReplicateOptimiser
from mmap_model.training.probe import ProbeRecorder
from mmap_model.training.replicate import Replicate


class Health:
    """Marks replicates that failed, and keeps those that are idle at zero.

    Args:
        replicates: of the batch; their ``error`` is set.
        tasks: names, in order.
        sgd: of their parameters, None where nothing is trained.
        probe: what a probe records.
        device: of the losses.
    """

    def __init__(
        self,
        replicates: Sequence[Replicate],
        tasks: Sequence[str],
        sgd: ReplicateOptimiser | None,
        probe: ProbeRecorder | None,
        device: torch.device,
    ) -> None:
        self._replicates, self._tasks = replicates, tasks
        self._sgd, self._probe, self._device = sgd, probe, device
        self._first_bad_step = torch.full((len(replicates),), -1, device=device)
        self._mask: tuple[list[bool], Tensor] | None = None

    @property
    def active(self) -> tuple[str, ...]:
        """Keys of the cells that are neither failed nor cancelled."""
        return tuple(r.key for r in self._replicates if r.active)

    def mask(self) -> Tensor | None:
        """The active replicates, bool [R], None for all; it goes to the device only when it changes."""
        active = [r.active for r in self._replicates]
        if all(active):
            return None
        if self._mask is None or self._mask[0] != active:
            self._mask = active, to_device(torch.tensor(active), self._device)
        return self._mask[1]

    def see(self, losses: Tensor, step: int) -> None:
        """Remember which of the losses [R, T] of a step are not finite, without waiting for the device."""
        bad = ~torch.isfinite(losses).all(1)
        self._first_bad_step = torch.where(bad & (self._first_bad_step < 0), step, self._first_bad_step)

    def drop_diverged(self, epoch: int) -> None:
        """Mark replicates whose losses, parameters or measured gradients are no longer finite."""
        for replicate, step in zip(self._replicates, self._first_bad_step.tolist(), strict=True):
            if replicate.active and step >= 0:
                replicate.error = _diverged(epoch, f"its loss was not finite at step {step}")
        if self._sgd is not None:
            self.drop_unsound(self._sgd.finite(), epoch, "its parameters overflowed")
        if self._probe is not None and (recorded := self._probe.finite()) is not None:
            self.drop_unsound(recorded, epoch, "products of its tasks' gradients are not finite")
        self.silence_idle()

    def drop_broken(self, epoch: int, predictions: Sequence[Sequence[TaskPredictions]] | None) -> None:
        """Mark replicates that give logits which are not finite: the best of them would pass for a guess.

        Args:
            epoch: whose training led there; 0 for none.
            predictions: by replicate and task.
        """
        for replicate, own in zip(self._replicates, predictions or (), strict=False):
            if replicate.active and (what := broken_logits(self._tasks, own)) is not None:
                trained = self._sgd is not None and epoch > 0
                replicate.error = _diverged(epoch, what) if trained else f"{what} before any training"
        self.silence_idle()

    def drop_unsound(self, sound: Tensor, epoch: int, what: str) -> None:
        """Mark replicates that are not ``sound``, bool [R], for the reason ``what``."""
        for replicate, well in zip(self._replicates, sound.tolist(), strict=True):
            if replicate.active and not well:
                replicate.error = _diverged(epoch, what)
        self.silence_idle()

    def silence_idle(self) -> None:
        """Set what failed and cancelled replicates train to zero."""
        mask = self.mask()
        if self._sgd is not None and mask is not None:
            self._sgd.silence(~mask)


def _diverged(epoch: int, what: str) -> str:
    return f"training diverged in epoch {epoch}: {what}; lower recipe.lr or set clip_norm"
