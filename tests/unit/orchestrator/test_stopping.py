"""Early stopping, and the searcher that Tune calls; no Ray is started."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import pytest
import ray.tune.tune
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune.execution import tune_controller
from ray.tune.execution.tune_controller import TuneController
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from orchestrator.driver.tune_run import (
    KEPT_S,
    ActorsKept,
    CancelWork,
    PatientController,
    StopAll,
    ThinActors,
    tuned,
)
from orchestrator.search.stopping import REMEMBERED, grace, make_scheduler, replay
from orchestrator.search.tune_searcher import TuneSearcher


def decide(scheduler: TrialScheduler, name: str, epochs: dict[int, float]) -> list[int]:
    """Epochs after which the scheduler stops the trial."""
    trial: Any = SimpleNamespace(trial_id=name)
    scheduler.on_trial_add(None, trial)
    stopped = []
    for epoch, mean in epochs.items():
        if scheduler.on_trial_result(None, trial, {"epoch": epoch, "mean": mean}) == TrialScheduler.STOP:
            stopped.append(epoch)
    return stopped


@pytest.mark.parametrize(("epochs", "first"), [(1, 1), (2, 2), (5, 3), (10, 6), (50, 30)])
def test_nothing_is_stopped_before_sixty_percent_of_the_epochs(epochs: int, first: int) -> None:
    assert grace(epochs) == first
    scheduler = make_scheduler("asha", epochs=epochs, reduction_factor=2)
    for good in range(5):
        decide(scheduler, f"good{good}", dict.fromkeys(range(1, epochs + 1), 0.9))
    stopped = decide(scheduler, "bad", dict.fromkeys(range(1, epochs + 1), 0.1))
    assert stopped and min(stopped) == first


def test_without_a_scheduler_every_trial_reaches_its_end() -> None:
    scheduler = make_scheduler("none", epochs=5, reduction_factor=3)
    decide(scheduler, "good", {3: 0.9})
    assert decide(scheduler, "bad", {3: 0.1}) == []


def test_a_rebuilt_scheduler_decides_like_the_one_that_saw_the_trials() -> None:
    history = [(number, {e: 0.1 * number + 0.01 * e for e in range(1, 4)}) for number in range(9)]
    seen = make_scheduler("asha", epochs=5, reduction_factor=3)
    for number, epochs in history:
        decide(seen, str(number), epochs)
    rebuilt = make_scheduler("asha", epochs=5, reduction_factor=3)
    replay(rebuilt, [*history, (9, {})])
    for value in (0.0, 0.3, 0.5, 0.7, 0.9):
        assert decide(seen, f"new{value}", {3: value}) == decide(rebuilt, f"new{value}", {3: value})


class Source:
    """A driver with two slots and three trials."""

    def __init__(self) -> None:
        self.left = 3
        self.told: list[tuple[int, str, dict[int, float]]] = []

    @property
    def exhausted(self) -> bool:
        return not self.left

    def room(self, live: int) -> bool:
        return live < 2

    def launch(self) -> dict[str, Any] | None:
        self.left -= 1
        return {"number": 2 - self.left, "item": f"trial-{2 - self.left}", "epochs": 2}

    def ended(self, number: int, state: str, epochs: dict[int, float]) -> None:
        self.told.append((number, state, epochs))


def test_trials_are_handed_out_while_there_are_slots_and_then_no_more() -> None:
    searcher, source = TuneSearcher(Source()), None
    source = searcher._source
    assert searcher.suggest("a")["number"] == 0  # type: ignore[index]
    assert searcher.suggest("b")["number"] == 1  # type: ignore[index]
    assert searcher.suggest("c") is None
    searcher.on_trial_complete("a", {"epoch": 2, "mean": 0.5, "state": "complete"})
    assert searcher.suggest("c")["number"] == 2  # type: ignore[index]
    assert searcher.suggest("d") == Searcher.FINISHED
    assert source.told == [(0, "complete", {2: 0.5})]


@pytest.mark.parametrize(
    ("result", "error", "state"),
    [
        ({"epoch": 3, "mean": 0.3, "state": "complete"}, False, "complete"),
        ({"epoch": 3, "mean": 0.3, "state": "running"}, False, "pruned"),
        ({"epoch": 2, "state": "failed"}, False, "failed"),
        (None, True, "lost"),
    ],
)
def test_the_last_result_counts_and_a_trial_still_running_was_pruned(
    result: dict[str, Any] | None, error: bool, state: str
) -> None:
    source = Source()
    searcher = TuneSearcher(source)
    searcher.suggest("a")
    searcher.on_trial_result("a", {"epoch": 1, "mean": 0.1, "state": "running"})
    searcher.on_trial_result("a", {"epoch": 2, "mean": 0.2, "state": "running"})
    searcher.on_trial_complete("a", result, error)
    last = {3: 0.3} if result and "mean" in result else {}
    assert source.told == [(0, state, {1: 0.1, 2: 0.2, **last})]


def test_epochs_told_again_after_a_restarted_actor_change_nothing() -> None:
    source = Source()
    searcher = TuneSearcher(source)
    searcher.suggest("a")
    for epoch in (1, 2, 1, 2):
        searcher.on_trial_result("a", {"epoch": epoch, "mean": epoch / 10, "state": "running"})
    searcher.on_trial_result("a", {"epoch": 1, "mean": 9.9, "state": "running"})
    searcher.on_trial_complete("a", {"epoch": 3, "mean": 0.3, "state": "complete"})
    assert source.told == [(0, "complete", {1: 0.1, 2: 0.2, 3: 0.3})]


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


class Ended:
    """A trial as Tune's controller holds it."""

    def __init__(self, trial_id: str) -> None:
        self.trial_id = trial_id


@pytest.mark.parametrize("kind", ["asha", "none"])
def test_tune_forgets_trials_that_ended(kind: Any) -> None:
    scheduler = make_scheduler(kind, epochs=3, reduction_factor=2)
    trials = [Ended(str(number)) for number in range(REMEMBERED + 1)]
    *ended, live = trials
    controller: Any = SimpleNamespace(
        _trials=list(trials),
        _stopped_trials=set(ended),
        _trials_to_cache=set(trials),
        _trial_metadata={trial.trial_id: "state" for trial in trials},
    )
    scheduler.on_trial_add(controller, live)
    scheduler.on_trial_complete(controller, live, {"epoch": 3, "mean": 0.5})
    assert controller._trials == [live] and controller._trials_to_cache == {live}
    assert list(controller._trial_metadata) == [live.trial_id] and not controller._stopped_trials


def test_tune_keeps_its_trials_where_they_are_taken_from() -> None:
    source = inspect.getsource(TuneController.__init__)
    for name in ("_trials", "_stopped_trials", "_trials_to_cache", "_trial_metadata"):
        assert f"self.{name}:" in source
