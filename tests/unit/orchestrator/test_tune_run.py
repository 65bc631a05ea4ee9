"""What Ray Tune is given, and what of its internals is replaced; no Ray is started."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import ray.tune.tune
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune.execution import tune_controller
from ray.tune.execution.tune_controller import TuneController

from orchestrator.driver.tune_run import (
    KEPT_S,
    ActorsKept,
    CancelWork,
    PatientController,
    StopAll,
    ThinActors,
    tuned,
)


def test_work_is_cancelled_only_where_the_trial_did_not_end_by_itself_and_nothing_is_raised() -> None:
    cancelled: list[str] = []

    def stop_early(item: str) -> None:
        cancelled.append(item)
        raise RuntimeError("the pool is gone")

    callback = CancelWork(stop_early)
    for item, state in (("a", "running"), ("b", "complete"), ("c", "failed")):
        trial = SimpleNamespace(last_result={"state": state}, config={"item": item})
        callback.on_trial_complete(0, [], trial)
    assert cancelled == ["a"]


def test_the_experiment_stops_as_a_whole_or_not_at_all() -> None:
    wanted = False
    stopper = StopAll(lambda: wanted)
    assert not stopper.stop_all() and not stopper("a", {})
    wanted = True
    assert stopper.stop_all() and not stopper("a", {})


def test_an_actor_that_ray_ends_for_memory_has_died_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    actors = ThinActors(resource_manager=SimpleNamespace())
    monkeypatch.setattr(actors, "_cleanup_actor", lambda tracked_actor: None)
    actor = SimpleNamespace(actor_id="a", _on_error=lambda actor, error: told.append(str(error)))
    task = SimpleNamespace(_tracked_actor=actor, _on_error=None)
    actors._actor_task_failed(task, OutOfMemoryError("2 workers were killed"))
    assert "2 workers were killed" in told[0]
    with pytest.raises(RuntimeError, match="unexpected"):
        actors._actor_task_failed(task, ValueError("what else there is"))


def test_free_actors_are_kept_for_a_while_whether_or_not_a_trial_waits_for_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [100.0]
    monkeypatch.setattr("orchestrator.driver.tune_run.time.monotonic", lambda: clock[0])
    actors = ActorsKept()
    for name in ("a", "b", "c", "d"):
        assert actors.cache_object("0.1 CPU", name)
        clock[0] += 10
    assert actors.pop_cached_object("0.1 CPU") == "d", "the others wait to be given up"
    assert actors.pop_cached_object("1 CPU") is None
    assert list(actors.flush_cached_objects()) == []
    clock[0] = 100 + KEPT_S + 10
    assert list(actors.flush_cached_objects()) == ["a", "b"] and actors.num_cached_objects == 1
    assert list(actors.flush_cached_objects(force_all=True)) == ["c"] and actors.num_cached_objects == 0


def test_a_free_actor_goes_to_a_trial_whose_own_has_no_room_but_not_to_one_whose_own_comes_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(TuneController, "_maybe_reuse_cached_actor", lambda self, trial: True)
    controller = object.__new__(PatientController)
    controller._resetting_trials = set()
    controller._trial_to_actor = {"starting": "a", "waiting": "b"}
    controller._actor_manager = SimpleNamespace(_pending_actors_to_attrs={"b": ()})
    taken = {name: controller._maybe_reuse_cached_actor(name) for name in ("starting", "waiting", "new")}
    assert taken == {"starting": False, "waiting": True, "new": True}


class Waiting:
    """A trial that is about to be given an actor."""

    PENDING = "PENDING"
    status = "PENDING"

    def __init__(self) -> None:
        self.run_metadata = SimpleNamespace(num_failures=0)


def test_a_trial_that_is_given_an_actor_which_has_died_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray tells it twice: of the actor, and of the trial's task."""
    told: list[str] = []
    controller = object.__new__(PatientController)
    trial = Waiting()
    died = RayActorError(error_msg="killed")

    def recover(self: Any, trial: Any, exception: Exception) -> None:
        told.append(trial.status)
        trial.status, controller._trial_to_actor = "PENDING", {}

    def failed(self: Any, actor: str, exception: Exception) -> None:
        trial.status = "RUNNING"
        self._trial_task_failure(trial, exception)

    monkeypatch.setattr(TuneController, "_trial_task_failure", recover)
    monkeypatch.setattr(TuneController, "_actor_failed", failed)
    controller._resetting_trials = {trial}
    controller._trial_to_actor, controller._actor_to_trial = {trial: "a"}, {"a": trial}
    controller._actor_failed("a", died)
    controller._trial_task_failure(trial, died)
    assert told == ["RUNNING"] and not controller._resetting_trials
    assert trial.run_metadata.num_failures == -1, "the one that Tune counts is not its own"


def test_tune_is_as_it_was_afterwards() -> None:
    before = ray.tune.tune.TuneController, tune_controller.RayActorManager
    with pytest.raises(KeyError), tuned("pool"):
        assert ray.tune.tune.TuneController is PatientController
        assert (tune_controller.RayActorManager, ThinActors.pool) == (ThinActors, "pool")
        raise KeyError
    assert (ray.tune.tune.TuneController, tune_controller.RayActorManager) == before
