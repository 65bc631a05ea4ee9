"""Which trials are stopped early: Ray Tune's asynchronous successive halving on the replicate mean, or none.

Successive halving: Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any, Literal

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from orchestrator.search.thin_trial import EPOCH, OBJECTIVE

EARLIEST = 0.6
"""Share of the epochs before which nothing is stopped: with a short schedule that begins with a warm-up
epoch, earlier ranks are noise."""


REMEMBERED = 64
"""Ended trials that Tune may keep before they go."""


class Forgetting:
    """Mixed into a scheduler: Tune forgets trials that have ended.

    Tune keeps every trial of an experiment for its reports and snapshots, and looks through all of them for
    one to start on every turn of its loop. Nothing of that is used here: a study's records
    are its memory. Tune offers no option for it, so this reaches into its controller; it is pinned to a minor
    version.
    """

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        super().on_trial_complete(tune_controller, trial, result)  # type: ignore[misc]
        if tune_controller is not None:
            forget_ended(tune_controller)


class NoStopping(Forgetting, FIFOScheduler):  # type: ignore[misc]
    """Every trial reaches its last epoch."""


class SuccessiveHalving(Forgetting, AsyncHyperBandScheduler):  # type: ignore[misc]
    """Asynchronous successive halving."""


def forget_ended(controller: Any) -> None:
    """Drop the ended trials of a ``TuneController``, now and then."""
    ended = controller._stopped_trials
    if len(ended) < REMEMBERED:
        return
    controller._trials[:] = [trial for trial in controller._trials if trial not in ended]
    controller._trials_to_cache -= ended
    for trial in ended:
        controller._trial_metadata.pop(trial.trial_id, None)
    ended.clear()


def make_scheduler(kind: Literal["asha", "none"], *, epochs: int, reduction_factor: int) -> TrialScheduler:
    """The scheduler of a study.

    Args:
        kind: ``asha``, or ``none`` to let every trial reach its last epoch.
        epochs: of every trial (with ``asha`` they are equal).
        reduction_factor: one in so many trials passes a rung.
    """
    if kind == "none":
        return NoStopping()
    return SuccessiveHalving(
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
