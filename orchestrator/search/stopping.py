"""Which trials are stopped early: Ray Tune's asynchronous successive halving on the replicate mean, or none.

Successive halving: Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any, Literal

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

EPOCH, OBJECTIVE = "epoch", "mean"
"""Keys of what a thin trial reports."""

EARLIEST = 0.6
"""Share of the epochs before which nothing is stopped: with a short schedule that begins with a warm-up
epoch, earlier ranks are noise."""


def make_scheduler(kind: Literal["asha", "none"], *, epochs: int, reduction_factor: int) -> TrialScheduler:
    """The scheduler of a study.

    Args:
        kind: ``asha``, or ``none`` to let every trial reach its last epoch.
        epochs: of every trial (with ``asha`` they are equal).
        reduction_factor: one in so many trials passes a rung.
    """
    if kind == "none":
        return FIFOScheduler()
    return AsyncHyperBandScheduler(
        time_attr=EPOCH,
        metric=OBJECTIVE,
        mode="max",
        max_t=epochs,
        grace_period=grace(epochs),
        reduction_factor=reduction_factor,
    )


def grace(epochs: int) -> int:
    """First epoch after which a trial may be stopped."""
    return max(1, math.ceil(EARLIEST * epochs))


def replay(scheduler: TrialScheduler, trials: Iterable[tuple[int, Mapping[int, float]]]) -> None:
    """Tell a new scheduler of trials that ended before: their number and their objective by epoch."""
    for number, epochs in trials:
        if not epochs:
            continue
        trial: Any = SimpleNamespace(trial_id=f"recorded-{number}")
        scheduler.on_trial_add(None, trial)
        for epoch, mean in sorted(epochs.items()):
            result = {EPOCH: epoch, OBJECTIVE: mean}
            scheduler.on_trial_result(None, trial, result)
        scheduler.on_trial_complete(None, trial, result)
