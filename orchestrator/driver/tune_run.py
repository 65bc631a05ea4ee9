"""The search as one Ray Tune experiment of thin trials."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray.tune.tune
from ray import tune
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune import Callback, Stopper
from ray.tune.execution import tune_controller
from ray.tune.execution.tune_controller import TuneController
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.schedulers import TrialScheduler
from ray.tune.utils.object_cache import _ObjectCache

from orchestrator.search.thin_trial import ThinTrial
from orchestrator.search.tune_searcher import TrialSource, TuneSearcher, Unsaved
from orchestrator.slots.cluster import TRIAL_CPUS
from orchestrator.slots.patches import patched

ACTOR_DEATHS = 3
"""Deaths of a thin trial's actor that a trial survives; its work goes on in its slot meanwhile."""

KEPT_S = 60.0
"""Seconds after which an actor that nobody needs gives its place back, so that its node may go."""

logger = logging.getLogger(__name__)


def run_tune(
    source: TrialSource,
    scheduler: TrialScheduler,
    pool: Any,
    *,
    folder: Path,
    should_stop: Callable[[], bool],
    stop_early: Callable[[str], None],
) -> None:
    """Run trials until the source is exhausted or ``should_stop``.

    Args:
        source: hands out trials.
        scheduler: stops weak ones.
        pool: the pool actor that the trials follow.
        folder: where Tune may write; nothing of it is read again.
        should_stop: asked several times a second.
        stop_early: ends the work of an item whose trial was stopped.
    """
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    with tuned(pool):
        tune.Tuner(
            tune.with_resources(Placeholder, {"cpu": TRIAL_CPUS}),
            tune_config=tune.TuneConfig(
                search_alg=TuneSearcher(source), scheduler=scheduler, num_samples=-1, reuse_actors=True
            ),
            run_config=tune.RunConfig(
                name="search",
                storage_path=str(folder),
                stop=StopAll(should_stop),
                callbacks=[CancelWork(stop_early), NoProgress()],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                failure_config=tune.FailureConfig(max_failures=ACTOR_DEATHS),
                verbose=0,
            ),
        ).fit()


class PatientController(TuneController):  # type: ignore[misc]
    """An actor that is up stays up, a trial whose actor is coming up keeps it.

    Tune would end actors whose trial is over unless others wait for one at that moment, and start new ones
    for the next, all the time where many trials are short. A trial whose actor comes up it would give the
    first that is free and throw away its own. With trials shorter than the start of an actor none but the
    first ever comes up then, and the driver grew by 140 KB a trial. Here a free actor goes to a trial that
    has none or whose own still waits for room. Tune offers no option for either; it is pinned to a minor
    version.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._actor_cache = ActorsKept()

    def _maybe_reuse_cached_actor(self, trial: Any) -> bool:
        own = self._trial_to_actor.get(trial)
        waits_for_room = own in self._actor_manager._pending_actors_to_attrs
        if own is not None and trial not in self._resetting_trials and not waits_for_room:
            return False
        return bool(super()._maybe_reuse_cached_actor(trial))

    def _actor_failed(self, tracked_actor: Any, exception: Exception) -> None:
        trial = self._actor_to_trial[tracked_actor]
        if trial in self._resetting_trials:  # it died while it was free: that is not the trial's failure
            self._resetting_trials.remove(trial)
            trial.run_metadata.num_failures -= 1
        super()._actor_failed(tracked_actor, exception)

    def _trial_task_failure(self, trial: Any, exception: Exception) -> None:
        waits = trial.status == trial.PENDING and trial not in self._trial_to_actor
        if waits and isinstance(exception, RayActorError):
            return  # told a second time that an actor which was free had died: the trial gets another
        super()._trial_task_failure(trial, exception)


class ActorsKept(_ObjectCache):  # type: ignore[misc]
    """Free actors. One that nobody took for a while is given up: there are more than trials live at a time.

    The latest goes first, so that those which are too many are the ones that wait.
    """

    def __init__(self) -> None:
        super().__init__()
        self._since: dict[Any, float] = {}

    def cache_object(self, key: Any, obj: Any) -> bool:
        self._cached_objects[key].append(obj)
        self._num_cached_objects += 1
        self._since[obj] = time.monotonic()
        return True

    def pop_cached_object(self, key: Any) -> Any:
        return self._pop(self._cached_objects[key], -1) if self.has_cached_object(key) else None

    def flush_cached_objects(self, force_all: bool = False) -> Iterator[Any]:
        until = math.inf if force_all else time.monotonic() - KEPT_S
        for found in self._cached_objects.values():
            while found and self._since[found[0]] <= until:
                yield self._pop(found, 0)

    def _pop(self, found: list[Any], index: int) -> Any:
        self._num_cached_objects -= 1
        actor = found.pop(index)
        del self._since[actor]
        return actor


class ThinActors(RayActorManager):  # type: ignore[misc]
    """Every trial is a `ThinTrial`.

    What Tune would start in its place imports all of Tune: several times the processor time and nearly twice
    the memory, for each slot.

    An actor that Ray ended for its node's memory has died like any other. Ray says so by an exception that is
    none of a dead actor, at which Tune ends the whole experiment. What it ends are the latest processes,
    whoever takes the memory: a thin trial besides the worker that is to blame.

    Attributes:
        pool: the pool actor that the trials follow.
    """

    pool: Any = None
    _thin_trial = ray.remote(ThinTrial)

    def add_actor(self, cls: Any, kwargs: dict[str, Any], resource_request: Any, **told: Any) -> Any:
        arguments = {"pool": self.pool, "config": _followed(kwargs["config"])}
        return super().add_actor(self._thin_trial, arguments, resource_request, **told)

    def schedule_actor_task(
        self,
        tracked_actor: Any,
        method_name: str,
        args: tuple[Any, ...] | None = None,
        kwargs: dict[str, Any] | None = None,
        **told: Any,
    ) -> Any:
        if method_name == "reset" and args:
            args, kwargs = (_followed(args[0]),), None
        return super().schedule_actor_task(tracked_actor, method_name, args, kwargs, **told)

    def _actor_task_failed(self, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, OutOfMemoryError):
            exception = RayActorError(error_msg=str(exception))
        super()._actor_task_failed(tracked_actor_task, exception)


def _followed(config: dict[str, Any]) -> dict[str, Any]:
    """Without what Tune puts in besides, for which an actor would have to import Tune."""
    return {name: config[name] for name in ("item", "epochs")}


class Placeholder(tune.Trainable):  # type: ignore[misc]
    """Tune insists on a trainable. None is ever made: see `ThinActors`."""


@contextmanager
def tuned(pool: Any) -> Iterator[None]:
    """Tune runs its trials by `PatientController` and `ThinActors`."""
    with (
        patched(ray.tune.tune, "TuneController", PatientController),
        patched(tune_controller, "RayActorManager", ThinActors),
        patched(ThinActors, "pool", pool),
    ):
        yield


class StopAll(Unsaved, Stopper):  # type: ignore[misc]
    """Ends the experiment when asked to, never a single trial."""

    def __init__(self, should_stop: Callable[[], bool]) -> None:
        self._should_stop = should_stop

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._should_stop()


class NoProgress(Unsaved, TrialProgressCallback):  # type: ignore[misc]
    """In place of what Tune adds otherwise: that prints nothing either, but keeps every trial."""

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, *_: Any, **info: Any
    ) -> None: ...
    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None: ...
    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None: ...


class CancelWork(Unsaved, Callback):  # type: ignore[misc]
    """Ends the work of trials that Tune stops: their actors only follow it.

    A trial that ends in error has lost its actor too often; its work goes on and is recorded. An exception in
    a Tune callback ends the experiment, so none leaves here.
    """

    def __init__(self, stop_early: Callable[[str], None]) -> None:
        self._stop_early = stop_early

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        try:
            if (trial.last_result or {}).get("state", "running") == "running":
                self._stop_early(trial.config["item"])
        except Exception:
            logger.exception("The work of a stopped trial could not be cancelled")
