"""Trials that are stopped by the driver's own rule, over epochs and over seeds; nothing is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from orchestrator.driver.staging import Staging
from orchestrator.driver.todo import find_todo
from orchestrator.driver.trials import Trials
from orchestrator.ledger import Invocation, Ledger, StudyStore
from orchestrator.ledger.trial_record import TrialRecord
from orchestrator.rows.rows import Rows
from orchestrator.search.proposals import Proposals
from orchestrator.search.samplers import Samplers
from orchestrator.search.stop_rule import stop_rule
from orchestrator.statistics.stages import by_seed, reached
from orchestrator.study import StudyPlan, load_plan
from orchestrator.tracking.tracker import NoTracker
from orchestrator.work.events import CellsKnown, CellState, Done, EpochReached, StageDone
from orchestrator.work.item import WorkItem

NOISE = (0.01, -0.01, 0.0)


class Queue:
    """Remembers."""

    def __init__(self) -> None:
        self.submitted: dict[str, tuple[WorkItem, list[str]]] = {}
        self.further: list[WorkItem] = []
        self.cancelled: list[str] = []

    def submit(self, item: WorkItem, needs: Sequence[str] = (), parts: Sequence[WorkItem] = ()) -> None:
        self.submitted.setdefault(item.item_id, (item, list(needs)))

    def go_on(self, item: WorkItem) -> None:
        self.further.append(item)

    def cancel(self, item_id: str) -> None:
        self.cancelled.append(item_id)

    def forget(self, item_id: str) -> None: ...


class Staged:
    """The trials of one invocation, and what a worker would tell of them."""

    def __init__(self, plan: StudyPlan) -> None:
        self.plan, self.queue = plan, Queue()
        self.store = StudyStore(plan.study.storage, plan.study.name)
        invocation = Invocation(fence=1)
        self.rows = Rows(plan, self.queue, NoTracker(), lambda shown: None, invocation)
        rule = stop_rule(plan.study)
        self.trials = Trials(
            self.rows,
            Proposals(plan.space.suggest, samplers=Samplers(seed=1), first=plan.first),
            self.store,
            slots=lambda: 2,
            staging=None if rule is None else Staging(rule),
        )

    def recall(self) -> Staged:
        todo = find_todo(self.plan, self.store, Ledger(self.store.storage), reason="", retry_failed=False)
        self.trials.recall(todo.records, todo.again, todo.lost)
        return self

    def record(self, number: int) -> Any:
        return self.store.load_trial(number)

    def seeds(self, number: int) -> int:
        """Seeds of the work that was asked for last."""
        name = f"trial-{number}"
        asked = [item for item in self.queue.further if item.item_id == name]
        return len((asked[-1] if asked else self.queue.submitted[name][0]).seeds)

    def tell(self, number: int, values: Sequence[float], epochs: Sequence[int] = (1, 2, 3, 4, 5)) -> None:
        """All cells in work reach some epochs, always with the same values; splits first."""
        name, count = f"trial-{number}", self.seeds(number)
        places = [(split, seed) for split in range(len(values) // count) for seed in range(count)]
        cells = [
            CellState(key=f"{number}-{p}-{s}", split=str(p), seed=str(s + 1), parameters=10)
            for p, s in places
        ]
        self.rows.take(CellsKnown(item_id=name, cells=cells))
        for epoch in epochs:
            mean = sum(values) / len(values)
            self.rows.take(
                EpochReached(item_id=name, epoch=epoch, mean=mean, values=list(values), reports={})
            )

    def over(self, number: int, *, stage: bool = False) -> None:
        """The work in hand is over, or a stage of it."""
        seconds = {"total": 2.0}
        name = f"trial-{number}"
        self.rows.take(
            StageDone(item_id=name, seconds=seconds)
            if stage
            else Done(item_id=name, state="complete", seconds=seconds)
        )

    def whole(self, number: int, level: float) -> None:
        """A trial that trains all its seeds at once, and is complete."""
        launched = self.trials.launch()
        assert launched is not None and launched["number"] == number and self.seeds(number) == 3
        self.tell(number, [level + NOISE[(number + i) % 3] for i in range(3)])
        for cell in self.rows._live[f"trial-{number}"].record.keys:
            Ledger(self.store.storage).commit(cell, {"metrics": {}}, {})
        self.over(number)
        self.trials.ended(number, "complete", {5: level})

    def first_seed(self, number: int, value: float) -> None:
        """A trial that has trained its first seed."""
        launched = self.trials.launch()
        assert launched is not None and launched["number"] == number and self.seeds(number) == 1
        self.tell(number, [0.60], epochs=(1, 2, 3, 4))
        self.tell(number, [value], epochs=(5,))
        self.over(number, stage=True)

    def stopped(self, number: int) -> TrialRecord:
        """The pool ends what was cancelled."""
        assert self.queue.cancelled[-1] == f"trial-{number}"
        self.rows.take(Done(item_id=f"trial-{number}", state="cancelled"))
        self.trials.ended(number, "cancelled", {})
        record: TrialRecord = self.record(number)
        return record


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., Staged]:
    def make(scheduler: str = "seeds", trials: int = 9) -> Staged:
        overrides = [f"storage={tmp_path / 'runs'}", f"search.trials={trials}", "name=unit"]
        return Staged(load_plan("demo", [*overrides, f"search.scheduler={scheduler}"]))

    return make


def begun(start: Any, scheduler: str = "seeds") -> Staged:
    """Two complete trials, the first of them better."""
    harness: Staged = start(scheduler)
    harness.whole(0, 0.60)
    harness.whole(1, 0.50)
    return harness


def test_the_first_trials_train_all_seeds_together_and_later_ones_one_seed_first(start: Any) -> None:
    harness = begun(start)
    harness.trials.launch()
    item = harness.queue.submitted["trial-2"][0]
    assert len(item.seeds) == 1 and item.more and harness.record(2).attributes["seeds"] == 1
    probes = {name for name in harness.queue.submitted if name.startswith("probe")}
    assert len(probes) == 1, "measured at all seeds, together with those of the first trials"


def test_a_trial_that_cannot_become_the_best_keeps_its_one_seed_and_is_pruned(start: Any) -> None:
    harness = begun(start)
    harness.first_seed(2, 0.40)
    record = harness.stopped(2)
    assert record.state == "pruned" and record.attributes["stopped_by"] == "scheduler"
    assert len(record.cells) == 1 and [e["epoch"] for e in record.epochs] == [1, 2, 3, 4, 5]
    at = record.attributes["stopped_at"]
    assert (at["seeds"], at["epoch"], at["value"]) == (1, 5, 0.40) and at["bar"] == pytest.approx(0.61)
    assert record.device_seconds == 2.0 and not harness.queue.further


def test_a_trial_that_may_become_the_best_goes_on_until_it_has_all_seeds(start: Any) -> None:
    harness = begun(start)
    harness.first_seed(2, 0.62)
    assert harness.seeds(2) == 2 and harness.queue.further[-1].more
    harness.tell(2, [0.62, 0.61])
    harness.over(2, stage=True)
    assert harness.seeds(2) == 3 and not harness.queue.further[-1].more
    harness.tell(2, [0.62, 0.61, 0.60])
    harness.over(2)
    record = harness.record(2)
    assert record.state == "complete" and record.value == pytest.approx(0.61) and len(record.cells) == 3
    assert record.device_seconds == 6.0 and "stopped_at" not in record.attributes
    stages = [(epoch, len(values)) for epoch, values in reached(record, 3) if epoch == 5]
    assert stages == [(5, 1), (5, 2), (5, 3)]


def test_the_sampler_is_told_one_seed_as_pruned_and_all_seeds_as_complete(start: Any) -> None:
    """A mean of one seed is no value: it would compare with means of three."""
    harness = begun(start)
    harness.first_seed(2, 0.40)
    harness.stopped(2)
    harness.trials.launch()
    told = harness.trials._proposals._study.get_trials(deepcopy=False)
    assert [trial.state.name for trial in told[:3]] == ["COMPLETE", "COMPLETE", "PRUNED"]
    assert told[2].value == told[2].intermediate_values[5] == 0.40  # Optuna's own reading of a pruned trial
    assert told[0].value == pytest.approx(0.60)


@pytest.mark.parametrize("value", [0.40, 0.62])
def test_a_search_that_is_killed_at_a_stage_decides_as_one_that_was_not(start: Any, value: float) -> None:
    whole = begun(start)
    whole.first_seed(2, value)
    killed = start("seeds").recall()  # records as the first driver had written them so far
    assert killed.trials._staging is not None
    launched = killed.trials.launch()
    assert launched is not None and launched["number"] == 2
    killed.tell(2, [0.60] * killed.seeds(2), epochs=(1, 2, 3, 4))
    killed.tell(2, [value] * killed.seeds(2), epochs=(5,))
    killed.over(2, stage=True)
    assert bool(killed.queue.cancelled) == bool(whole.queue.cancelled) == (value < 0.5)
    if value > 0.5:
        assert killed.seeds(2) == whole.seeds(2)


def test_a_trial_that_was_in_its_second_stage_goes_on_there(start: Any) -> None:
    first = begun(start)
    first.first_seed(2, 0.62)
    first.tell(2, [0.62, 0.61], epochs=(1, 2))
    first.trials.stop()
    first.trials.close()
    again = start("seeds").recall()
    assert again.trials.launch()["number"] == 2
    assert again.seeds(2) == 2
    again.tell(2, [0.62, 0.61])
    again.over(2, stage=True)
    assert again.seeds(2) == 3
    record = again.rows._live["trial-2"].record
    assert [stage["seeds"] for stage in record.attributes["stages"]] == [1, 2]
    assert [e["epoch"] for e in record.attributes["stages"][1]["epochs"]] == [1, 2, 3, 4, 5]


def test_an_interrupted_search_in_stages_proposes_what_an_uninterrupted_one_would(
    start: Any, tmp_path: Path
) -> None:
    values = {2: 0.40, 3: 0.45, 4: 0.42, 5: 0.41}

    def go(harness: Staged, numbers: Sequence[int]) -> None:
        for number in numbers:
            harness.first_seed(number, values[number])
            harness.stopped(number)

    once = begun(start)
    go(once, [2, 3, 4, 5])
    expected = [once.record(number).params for number in range(6)]
    for file in (tmp_path / "runs").rglob("trials/*.json"):
        file.unlink()
    begun(start)
    go(start("seeds").recall(), [2])
    go(start("seeds").recall(), [3, 4])
    last = start("seeds").recall()
    go(last, [5])
    assert [last.record(number).params for number in range(6)] == expected


def test_when_the_driver_stops_a_stage_that_ends_decides_nothing(start: Any) -> None:
    harness = begun(start)
    harness.trials.launch()
    harness.tell(2, [0.55])
    harness.trials.stop()
    harness.over(2, stage=True)
    assert not harness.queue.further and not harness.queue.cancelled
    harness.trials.close()
    assert harness.record(2).state == "running" and harness.record(2).attributes["seeds"] == 1


def test_a_user_may_cancel_a_trial_in_any_stage(start: Any) -> None:
    harness = begun(start)
    harness.first_seed(2, 0.62)
    assert harness.trials.cancel(2)
    record = harness.stopped(2)
    assert record.state == "pruned" and record.attributes["stopped_by"] == "user"


def test_rungs_over_epochs_stop_a_weak_trial_in_the_middle(start: Any) -> None:
    harness = start("{name: asha}")
    assert harness.plan.study.search.scheduler_version == 2
    for number, level in enumerate((0.600, 0.598, 0.596, 0.594)):
        harness.whole(number, level)
    harness.trials.launch()
    harness.tell(4, [0.40, 0.41, 0.39], epochs=(1, 2))
    assert not harness.queue.cancelled, "the second epoch is no rung"
    harness.tell(4, [0.40, 0.41, 0.39], epochs=(3,))
    record = harness.stopped(4)
    assert record.state == "pruned" and record.attributes["stopped_at"]["epoch"] == 3
    assert len(record.cells) == 3


def test_a_stage_that_ends_before_it_could_be_stopped_in_the_middle_is_not_gone_on_with(start: Any) -> None:
    harness = begun(start)
    harness.trials.launch()
    harness.tell(2, [0.1], epochs=(1, 2, 3))
    harness.tell(2, [0.9], epochs=(4, 5))
    harness.over(2, stage=True)
    record = harness.stopped(2)
    assert not harness.queue.further and record.attributes["stopped_at"]["epoch"] == 3


def test_an_epoch_that_was_not_scored_is_not_judged(start: Any) -> None:
    harness = start("{name: asha}")
    for number, level in enumerate((0.600, 0.598, 0.596)):
        harness.whole(number, level)
    harness.trials.launch()
    event = EpochReached(item_id="trial-3", epoch=3, mean=None, values=[None] * 3, reports={})
    harness.rows.take(event)
    assert not harness.queue.cancelled


def test_a_study_on_several_splits_compares_means_over_them(start: Any) -> None:
    assert by_seed({"values": [0.1, 0.2, 0.3, 0.5, 0.6, 0.7]}, 3) == pytest.approx([0.3, 0.4, 0.5])
    assert by_seed({"values": [0.1, 0.5]}, 1) == pytest.approx([0.3])
    harness = begun(start)
    harness.trials.launch()
    harness.tell(2, [0.62, 0.64])
    harness.over(2, stage=True)
    record = harness.rows._live["trial-2"].record
    assert [values for epoch, values in reached(record, 3) if epoch == 5] == [pytest.approx([0.63])]


def test_a_study_begun_before_the_rule_had_versions_goes_on_by_its_own(tmp_path: Path) -> None:
    from orchestrator.study import continued, study_from_plain

    study = load_plan("demo", [f"storage={tmp_path}"]).study
    assert study.search.scheduler.name == "asha" and stop_rule(study) is not None
    plain = study.to_plain()
    assert plain["search"].pop("scheduler_version") == 2
    stored = study_from_plain(plain, "study.json")
    assert stored.search.scheduler_version == 1 and stop_rule(stored) is None
    assert continued(study, stored) == stored and stop_rule(continued(study, stored)) is None
    assert continued(study, study) == study


def test_a_recorded_study_of_an_earlier_version_keeps_the_rule_it_was_begun_with(
    first_records: Path, earlier_plan: Callable[[str], StudyPlan]
) -> None:
    """Its record as that version wrote it, which knew asha by its name alone."""
    from orchestrator.driver.run import _check_stored, _continued
    from orchestrator.study import load_plan as plan_of

    store = StudyStore(first_records / "runs", "fixed")
    stored = store.load_study()
    assert stored is not None and "scheduler_version" not in stored["search"]
    store.save_study({**stored, "search": {**stored["search"], "scheduler": "asha"}})
    now = earlier_plan("fixed").study
    new = plan_of(
        str(first_records / "fixed.yaml"),
        [
            f"dataset.root={now.dataset.root}",
            f"dataset.lists={now.dataset.lists}",
            f"storage={first_records / 'runs'}",
            "search.scheduler=asha",
        ],
    )
    assert new.study.search.scheduler_version == 2
    goes_on = _continued(store, new)
    _check_stored(store, goes_on)
    assert goes_on.study.search.scheduler_version == 1 and stop_rule(goes_on.study) is None
    with pytest.raises(ValueError, match="scheduler_version"):
        _check_stored(store, new)


def test_a_trial_that_violates_a_constraint_is_no_rival_of_those_that_may_win(start: Any) -> None:
    from orchestrator.ledger.trial_record import CONSTRAINTS

    staging = start().trials._staging
    assert staging is not None
    for number, level in enumerate((0.90, 0.52, 0.50)):
        values = [level + NOISE[(number + i) % 3] for i in range(3)]
        epochs = [{"epoch": 5, "mean": level, "values": values}]
        record = TrialRecord(number=number, state="complete", epochs=epochs)
        record.attributes[CONSTRAINTS] = {"parameters<=9": 1.0 if number == 0 else -1.0}
        staging.learn(record)
    entry = {"epoch": 5, "mean": 0.53, "values": [0.53]}
    trial = TrialRecord(number=3, epochs=[entry], attributes={"seeds": 1})
    staging.reached(trial)
    assert staging.next_stage(trial) == 2, "it may become the best of those that meet the constraints"
