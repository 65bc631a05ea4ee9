"""Which trials are stopped early: schedulers of Ray Tune on the replicate mean, or none.

Successive halving: Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020. Median
stopping: Golovin et al., "Google Vizier", KDD 2017.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from orchestrator.search.thin_trial import EPOCH, OBJECTIVE
from orchestrator.study.scheduler import VERSION, Scheduler, custom_scheduler, first_stop

REMEMBERED = 64
"""Ended trials that Tune may keep before they go."""

logger = logging.getLogger(__name__)


class ThinScheduler(TrialScheduler):  # type: ignore[misc]
    """A scheduler as thin trials can serve it, and as Tune does not grow with it.

    It may stop a trial or let it go on. A trial cannot wait, because its work goes on in its slot: one that
    the scheduler would pause goes on, which is said once. A trial that ended without its objective has
    failed. Trials that ended are forgotten by Tune.

    Args:
        inner: decides.
        epochs: of every trial.
    """

    def __init__(self, inner: TrialScheduler, epochs: int) -> None:
        super().__init__()
        self._inner, self._epochs = inner, epochs
        self._said = False

    @property
    def metric(self) -> Any:
        return self._inner.metric

    @property
    def supports_buffered_results(self) -> bool:
        return bool(self._inner.supports_buffered_results)

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        return bool(self._inner.set_search_properties(metric, mode, **spec))

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        self._inner.on_trial_add(tune_controller, trial)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        self._inner.on_trial_error(tune_controller, trial)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        self._inner.on_trial_remove(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if result.get(OBJECTIVE) is None:
            return str(TrialScheduler.CONTINUE)
        decision = str(self._inner.on_trial_result(tune_controller, trial, result))
        if decision in (TrialScheduler.STOP, TrialScheduler.CONTINUE):
            return decision
        if not self._said:
            self._said = True
            logger.warning(
                "%s would pause trials: they go on, for their work cannot wait", type(self._inner).__name__
            )
        return str(TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        if result.get(OBJECTIVE) is None:
            self._inner.on_trial_error(tune_controller, trial)
        else:
            self._inner.on_trial_complete(tune_controller, trial, result)
        forget_ended(tune_controller)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        return self._inner.choose_trial_to_run(tune_controller)

    def debug_string(self) -> str:
        return str(self._inner.debug_string())

    def recall(self, controller: Any, trial: Any, epochs: Mapping[int, float]) -> None:
        """Tell of a trial that ended before, as it was told of it then.

        Others came first then: what it would stop now may have gone on. Those of this module are told the
        rest as well; another one hears no more of a trial that it has stopped, as Tune has it.
        """
        self._inner.on_trial_add(controller, trial)
        *earlier, last = sorted(epochs)
        for epoch in earlier if last >= self._epochs else [*earlier, last]:  # the end comes with the last one
            decision = self.on_trial_result(controller, trial, {EPOCH: epoch, OBJECTIVE: epochs[epoch]})
            if decision == TrialScheduler.STOP and type(self._inner) not in HEAR_ON:
                break
        trial.status = Trial.TERMINATED
        self.on_trial_complete(controller, trial, {EPOCH: last, OBJECTIVE: epochs[last]})


class MedianStopping(MedianStoppingRule):  # type: ignore[misc]
    """The median stopping rule, which hears on of a trial that it has stopped."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if trial in self._stopped_trials:
            self._results[trial].append(result)
            return str(TrialScheduler.STOP)
        return str(super().on_trial_result(tune_controller, trial, result))


HEAR_ON = (FIFOScheduler, AsyncHyperBandScheduler, MedianStopping)


def forget_ended(controller: Any) -> None:
    """Drop the ended trials of a ``TuneController``, now and then.

    Tune keeps every trial of an experiment for its reports and snapshots, and looks through all of them for
    one to start on every turn of its loop. Nothing of that is used here: a study's records are its memory.
    Tune offers no option for it, so this reaches into its controller; it is pinned to a minor version.
    """
    ended = controller._stopped_trials
    if len(ended) < REMEMBERED:
        return
    controller._trials[:] = [trial for trial in controller._trials if trial not in ended]
    controller._trials_to_cache -= ended
    for trial in ended:
        controller._trial_metadata.pop(trial.trial_id, None)
    ended.clear()


def make_scheduler(
    scheduler: Scheduler | str,
    *,
    epochs: int,
    reduction_factor: int,
    warmup: int = 1,
    version: int = VERSION,
) -> ThinScheduler:
    """The scheduler of a study.

    Args:
        scheduler: as the study has it, or the name of one.
        epochs: of every trial; where trials are stopped they are equal.
        reduction_factor: of ``asha``: one in so many trials passes a rung.
        warmup: epochs of warm-up.
        version: of the rule; Tune's own ``asha`` serves the first, later ones are the driver's
            (``.stop_rule``).
    """
    if isinstance(scheduler, str):
        scheduler = Scheduler(name=scheduler)
    told: dict[str, Any] = {"time_attr": EPOCH, "metric": OBJECTIVE, "mode": "max"}
    first = first_stop(scheduler, epochs=epochs, warmup=warmup, version=version)
    told |= {"grace_period": first, **scheduler.options}
    if scheduler.name == "none":
        inner = FIFOScheduler()
    elif scheduler.name == "asha":
        inner = AsyncHyperBandScheduler(max_t=epochs, reduction_factor=reduction_factor, **told)
    elif scheduler.name == "median":
        inner = MedianStopping(min_time_slice=math.inf, **told)  # while there are too few nothing is paused
    else:
        inner = custom_scheduler(scheduler, epochs=epochs)
    return ThinScheduler(inner, epochs)


class RecordedTrial:
    """A trial of an earlier run, as far as schedulers look at one."""

    status = Trial.RUNNING
    is_saving = False

    def __init__(self, number: int, last: Mapping[str, Any]) -> None:
        self.trial_id = f"recorded-{number}"
        self.config: dict[str, Any] = {}
        self.last_result = dict(last)

    def __repr__(self) -> str:
        return self.trial_id


class Elsewhere:
    """In place of Tune's controller for trials that ended before: there are none to be run."""

    def __init__(self) -> None:
        self._stopped_trials: set[Any] = set()

    def get_trials(self) -> list[Any]:
        return []

    def get_live_trials(self) -> set[Any]:
        return set()

    def stop_trial(self, trial: Any) -> None:
        """It has ended."""

    def pause_trial(self, trial: Any, should_checkpoint: bool = True) -> None:
        """It has ended."""


def replay(scheduler: ThinScheduler, trials: Iterable[tuple[int, Mapping[int, float]]]) -> None:
    """Tell a new scheduler of trials that ended before: their number and their objective by epoch."""
    controller = Elsewhere()
    for number, epochs in trials:
        if epochs:
            last = max(epochs)
            trial = RecordedTrial(number, {EPOCH: last, OBJECTIVE: epochs[last]})
            scheduler.recall(controller, trial, epochs)
