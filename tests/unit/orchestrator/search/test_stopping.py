"""Early stopping, with the schedulers of the installed Ray Tune; no Ray is started."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.execution.tune_controller import TuneController
from ray.tune.schedulers import SCHEDULER_IMPORT, FIFOScheduler, MedianStoppingRule, TrialScheduler

from mmap_model.errors import InputError
from orchestrator.search.stopping import REMEMBERED, ThinScheduler, replay
from orchestrator.search.stopping import make_scheduler as make_any_scheduler
from orchestrator.study import load_study
from orchestrator.study.rungs import grace
from orchestrator.study.scheduler import Scheduler

STOP = TrialScheduler.STOP


def make_scheduler(scheduler: Scheduler | str, *, epochs: int, reduction_factor: int) -> ThinScheduler:
    """As studies begun before the rule had versions go on; Tune's schedulers are the same in all."""
    return make_any_scheduler(scheduler, epochs=epochs, reduction_factor=reduction_factor, version=1)


class Live:
    """A trial as schedulers see it."""

    status = "RUNNING"
    is_saving = False

    def __init__(self, trial_id: str) -> None:
        self.trial_id = trial_id


class Controller:
    """Tune's, while other trials wait for an actor."""

    def __init__(self) -> None:
        self._stopped_trials: set[Any] = set()

    def get_live_trials(self) -> set[Any]:
        waiting = Live("waiting")
        waiting.status = "PENDING"
        return {waiting}


CONTROLLER: Any = Controller()


def decide(scheduler: TrialScheduler, name: str, epochs: dict[int, float]) -> list[int]:
    """Epochs after which the scheduler stops the trial."""
    trial = Live(name)
    scheduler.on_trial_add(CONTROLLER, trial)
    stopped = []
    for epoch, mean in epochs.items():
        if scheduler.on_trial_result(CONTROLLER, trial, {"epoch": epoch, "mean": mean}) == STOP:
            stopped.append(epoch)
    return stopped


def live(scheduler: TrialScheduler, trials: dict[int, dict[int, float]], epochs: int) -> dict[int, Any]:
    """Trials side by side, as Tune tells of them; what becomes their record, and when each was stopped."""
    running = {number: Live(str(number)) for number in trials}
    told: dict[int, dict[int, float]] = {number: {} for number in trials}
    for trial in running.values():
        scheduler.on_trial_add(CONTROLLER, trial)
    for epoch in range(1, epochs + 1):
        for number, trial in list(running.items()):
            mean = told[number][epoch] = trials[number][epoch]
            result = {"epoch": epoch, "mean": mean}
            last = epoch == epochs  # comes with the end, of which Tune tells the scheduler alone
            if last or scheduler.on_trial_result(CONTROLLER, trial, result) == STOP:
                trial.status = "TERMINATED"
                scheduler.on_trial_complete(CONTROLLER, trial, result)
                del running[number]
    return told


@pytest.mark.parametrize(("epochs", "first"), [(1, 1), (2, 2), (5, 3), (10, 6), (50, 30)])
def test_nothing_is_stopped_before_sixty_percent_of_the_epochs(epochs: int, first: int) -> None:
    assert grace(epochs) == first
    scheduler = make_scheduler("asha", epochs=epochs, reduction_factor=2)
    for good in range(5):
        decide(scheduler, f"good{good}", dict.fromkeys(range(1, epochs + 1), 0.9))
    stopped = decide(scheduler, "bad", dict.fromkeys(range(1, epochs + 1), 0.1))
    assert stopped and min(stopped) == first


def test_median_waits_for_the_second_epoch_after_the_warm_up() -> None:
    scheduler = make_any_scheduler("median", epochs=10, reduction_factor=3, warmup=2)
    for number in range(4):
        live(scheduler, {number: dict.fromkeys(range(1, 11), 0.9)}, 10)
    assert min(decide(scheduler, "weak", dict.fromkeys(range(1, 11), 0.1))) == 4


def test_without_a_scheduler_every_trial_reaches_its_end() -> None:
    scheduler = make_scheduler("none", epochs=5, reduction_factor=3)
    decide(scheduler, "good", {3: 0.9})
    assert decide(scheduler, "bad", {3: 0.1}) == []


CURVES = {
    number: {epoch: 0.07 * (number * 5 % 11) + 0.01 * epoch for epoch in range(1, 11)} for number in range(11)
}


@pytest.mark.parametrize("kind", ["none", "asha", "median"])
def test_a_rebuilt_scheduler_decides_like_the_one_that_saw_the_trials(kind: str) -> None:
    seen, rebuilt = (make_scheduler(kind, epochs=10, reduction_factor=2) for _ in range(2))
    records = {}
    for first in range(0, 11, 3):  # three at a time
        records |= live(seen, {n: CURVES[n] for n in range(first, min(first + 3, 11))}, 10)
    assert (min(len(told) for told in records.values()) < 10) == (kind != "none"), "some were stopped"
    replay(rebuilt, [*sorted(records.items()), (11, {})])
    for value in (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.9):
        curve = {epoch: value + 0.01 * epoch for epoch in range(1, 10)}
        assert decide(seen, f"new{value}", curve) == decide(rebuilt, f"new{value}", curve)


@pytest.mark.parametrize(
    "name", ["ray.tune.schedulers:MedianStoppingRule", "ray.tune.schedulers:AsyncHyperBandScheduler"]
)
def test_replay_survives_a_scheduler_that_would_stop_what_went_on(name: str) -> None:
    scheduler = make_scheduler(Scheduler(name=name, grace_period=1), epochs=5, reduction_factor=3)
    falling = [(number, {e: 1 - 0.1 * number - 0.01 * e for e in range(1, 6)}) for number in range(8)]
    replay(scheduler, falling)
    assert decide(scheduler, "weak", {1: 0.0}) == [1]


def test_median_pauses_nothing_while_there_is_too_little_to_go_by() -> None:
    scheduler = make_scheduler("median", epochs=2, reduction_factor=3)
    assert decide(scheduler, "first", {1: 0.1, 2: 0.1}) == []


def test_median_stops_below_the_median_after_as_many_trials_as_it_asks_for() -> None:
    scheduler = make_scheduler(
        Scheduler(name="median", min_samples_required=2, grace_period=2), epochs=4, reduction_factor=3
    )
    good = dict.fromkeys(range(1, 5), 0.9)
    live(scheduler, {0: good}, 4)
    assert decide(scheduler, "after one", dict.fromkeys(range(1, 4), 0.1)) == []
    live(scheduler, {1: good}, 4)
    assert min(decide(scheduler, "after two", dict.fromkeys(range(1, 4), 0.1))) == 2


@pytest.mark.parametrize("kind", ["asha", "median"])
def test_a_trial_that_fails_without_its_objective_does_not_end_the_search(kind: str) -> None:
    scheduler = make_scheduler(kind, epochs=3, reduction_factor=2)
    live(scheduler, {number: dict.fromkeys(range(1, 4), 0.9) for number in range(4)}, 3)
    failed = Live("failed")
    scheduler.on_trial_add(CONTROLLER, failed)
    scheduler.on_trial_result(CONTROLLER, failed, {"epoch": 1, "mean": 0.9})
    scheduler.on_trial_complete(CONTROLLER, failed, {"epoch": 1, "state": "failed", "done": True})
    assert decide(scheduler, "bad", {1: 0.1, 2: 0.1}) == [2]


class Pausing(FIFOScheduler):  # type: ignore[misc]
    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        return str(TrialScheduler.PAUSE)


def test_a_trial_that_a_scheduler_would_pause_goes_on_and_that_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scheduler = ThinScheduler(Pausing(), 3)
    assert decide(scheduler, "a", {1: 0.1, 2: 0.2}) == []
    assert [record.message for record in caplog.records if "Pausing would pause" in record.message] != []
    assert len(caplog.records) == 1


CUSTOM = """
from ray.tune.schedulers import FIFOScheduler, HyperBandScheduler

class Impatient(FIFOScheduler):
    def __init__(self, metric, max_t, least=0.5):
        super().__init__()
        assert least < 1, "least is a share"
        self.key, self.last, self.least = metric, max_t, least

    def on_trial_result(self, tune_controller, trial, result):
        return self.STOP if result[self.key] < self.least else self.CONTINUE

class Mine(HyperBandScheduler): ...
class NoScheduler: ...
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run beside a file of schedulers."""
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(CUSTOM)


@pytest.mark.usefixtures("own")
def test_a_custom_scheduler_is_named_by_its_file_and_gets_its_options() -> None:
    study = load_study("demo", ["search.scheduler={name: own.py:Impatient, least: 0.3}"])
    scheduler = make_scheduler(study.search.scheduler, epochs=4, reduction_factor=3)
    assert decide(scheduler, "good", {1: 0.4}) == [] and decide(scheduler, "bad", {1: 0.2}) == [1]
    assert study.to_plain()["search"]["scheduler"] == {"name": "own.py:Impatient", "least": 0.3}


@pytest.mark.parametrize(
    ("given", "where", "said"),
    [
        ("hyperband", "search.scheduler", "pauses trials"),
        ("pbt", "search.scheduler", "changes a trial's configuration"),
        ("resource_changing", "search.scheduler", "what a trial may use"),
        ("ash", "search.scheduler", "asha"),
        ("ray.tune.schedulers:HyperBandForBOHB", "search.scheduler", "pauses trials"),
        ("own.py:Mine", "search.scheduler", "pauses trials"),
        ("own.py:NoScheduler", "search.scheduler", "is not a scheduler"),
        ("own.py:Nothing", "search.scheduler", "is not a scheduler"),
        ("{name: own.py:Impatient, leas: 1}", "search.scheduler.leas", "least"),
        ("{name: own.py:Impatient, metric: x}", "search.scheduler.metric", "no option"),
        ("{name: own.py:Impatient, least: 2.0}", "search.scheduler", "least is a share"),
        ("{name: asha, brackets: 3}", "search.scheduler.brackets", "grace_period"),
        ("{name: median, min_samples_required: 0}", "search.scheduler.min_samples_required", "use 1"),
        ("{name: asha, grace_period: 99}", "search.scheduler.grace_period", "or less"),
        ("{name: asha, chance: 0.7}", "search.scheduler.chance", "up to 0.5"),
        ("{name: seeds, chance: 0}", "search.scheduler.chance", "up to 0.5"),
        ("{name: seeds, first: 3}", "search.scheduler", "more seeds"),
        ("{name: seeds, brackets: 3}", "search.scheduler.brackets", "first"),
    ],
)
@pytest.mark.usefixtures("own")
def test_what_thin_trials_cannot_serve_is_refused_in_words(given: str, where: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        load_study("demo", [f"search.scheduler={given}"])
    assert caught.value.where is not None and where in caught.value.where and said in str(caught.value)


def test_every_scheduler_that_ray_tune_names_is_served_renamed_or_refused_in_words() -> None:
    for name in SCHEDULER_IMPORT:
        try:
            assert load_study("demo", [f"search.scheduler={name}"]).search.scheduler.name == name
        except InputError as refused:
            assert "unknown scheduler" not in str(refused), name


def test_a_scheduler_without_options_is_stored_by_its_name() -> None:
    for given in ("asha", "none", "{name: median}"):
        stored = load_study("demo", [f"search.scheduler={given}"]).to_plain()["search"]["scheduler"]
        assert stored == given.removeprefix("{name: ").removesuffix("}")


def test_ray_keeps_what_median_hears_on_with() -> None:
    source = inspect.getsource(MedianStoppingRule)
    assert "self._stopped_trials = set()" in source and "self._results[trial].append(result)" in source


class Ended:
    """A trial as Tune's controller holds it."""

    def __init__(self, trial_id: str) -> None:
        self.trial_id = trial_id


@pytest.mark.parametrize("kind", ["asha", "median", "none"])
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
