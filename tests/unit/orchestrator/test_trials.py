"""Which trial comes next and what is recorded of it, with a pool that only remembers what it was asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from orchestrator.driver import cancelling
from orchestrator.driver.todo import find_todo
from orchestrator.driver.trials import Trials
from orchestrator.ledger import Invocation, Ledger, StudyStore, WriteBehind
from orchestrator.ledger.storage import LocalStorage
from orchestrator.rows.rows import Rows
from orchestrator.search.proposals import Proposals
from orchestrator.study import StudyPlan, load_plan
from orchestrator.tracking.tracker import NoTracker
from orchestrator.work.events import (
    CellFinished,
    CellsKnown,
    CellState,
    CellStatus,
    Done,
    EndState,
    EpochReached,
    Interrupted,
)
from orchestrator.work.item import WorkItem
from orchestrator.work.shown import NoteShown, Shown, TrialShown

KEYS = ("k1", "k2", "k3")


class Queue:
    """Remembers."""

    def __init__(self) -> None:
        self.submitted: dict[str, tuple[WorkItem, list[str]]] = {}
        self.parts: dict[str, list[WorkItem]] = {}
        self.cancelled: list[str] = []
        self.further: list[WorkItem] = []
        self.forgotten: list[str] = []

    def submit(self, item: WorkItem, needs: Sequence[str] = (), parts: Sequence[WorkItem] = ()) -> None:
        self.submitted.setdefault(item.item_id, (item, list(needs)))
        self.parts[item.item_id] = list(parts)

    def go_on(self, item: WorkItem) -> None:
        self.further.append(item)

    def cancel(self, item_id: str) -> None:
        self.cancelled.append(item_id)

    def forget(self, item_id: str) -> None:
        self.forgotten.append(item_id)


class Harness:
    """The trials of one invocation and everything around them."""

    def __init__(self, plan: StudyPlan, *, slots: int = 2, **options: Any) -> None:
        self.plan = plan
        self.store = StudyStore(plan.study.storage, plan.study.name)
        self.queue = Queue()
        self.shown: list[Shown] = []
        self.invocation = Invocation(fence=1)
        self.rows = Rows(plan, self.queue, NoTracker(), self.shown.append, self.invocation)
        self.trials = Trials(
            self.rows,
            Proposals(plan.space.suggest, first=plan.first),
            self.store,
            slots=lambda: slots,
            **options,
        )

    def recall(self, **options: Any) -> Harness:
        todo = find_todo(
            self.plan,
            self.store,
            Ledger(self.store.storage),
            reason="",
            retry_failed=options.get("retry_failed", False),
        )
        self.trials.recall(todo.records, todo.again, todo.lost)
        return self

    def cells(self, number: int, status: CellStatus = "new") -> None:
        cells = [
            CellState(key=f"{k}-{number}", split="6-shot", seed=str(i), parameters=10, status=status)
            for i, k in enumerate(KEYS)
        ]
        self.rows.take(CellsKnown(item_id=f"trial-{number}", cells=cells))

    def epochs(self, number: int, means: Sequence[float]) -> None:
        item = f"trial-{number}"
        for epoch, mean in enumerate(means, 1):
            self.rows.take(EpochReached(item_id=item, epoch=epoch, mean=mean, values=[mean] * 3, reports={}))

    def done(self, number: int, state: EndState = "complete", error: str | None = None, **more: Any) -> None:
        seconds = {"total": 2.0}
        self.rows.take(Done(item_id=f"trial-{number}", state=state, error=error, seconds=seconds, **more))

    def commit(self, number: int, **metrics: Any) -> None:
        for key in KEYS:
            Ledger(self.store.storage).commit(f"{key}-{number}", {"metrics": metrics}, {})

    def complete(self, number: int, mean: float = 0.5) -> None:
        self.cells(number)
        self.epochs(number, [mean - 0.1, mean])
        self.commit(number)
        self.done(number)
        self.trials.ended(number, "complete", {1: mean - 0.1, 2: mean})

    def record(self, number: int) -> Any:
        return self.store.load_trial(number)


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., Harness]:
    def make(trials: int = 4, name: str = "unit", **options: Any) -> Harness:
        overrides = [f"storage={tmp_path / 'runs'}", f"search.trials={trials}", f"name={name}"]
        return Harness(load_plan("demo", overrides), **options)

    return make


def test_a_launched_trial_is_recorded_before_its_work_is_queued(start: Any) -> None:
    harness = start()
    config = harness.trials.launch()
    assert config == {"number": 0, "item": "trial-0", "epochs": 5}
    record = harness.record(0)
    assert (record.state, record.attempts, record.fence) == ("running", 1, 1)
    assert record.params == harness.plan.first[0]
    item, _ = harness.queue.submitted["trial-0"]
    assert item.trial == 0 and item.point == record.point


def test_trials_with_equal_probes_wait_for_one_and_the_same(start: Any) -> None:
    harness = start()
    for _ in range(3):
        harness.trials.launch()
    needs = {tuple(needs) for name, (_, needs) in harness.queue.submitted.items() if name.startswith("trial")}
    probes = [name for name in harness.queue.submitted if name.startswith("probe")]
    assert needs == {(probes[0],)} and len(probes) == 1
    assert harness.queue.submitted[probes[0]][0].purpose == "probe"


def test_work_queued_ahead_is_handed_out_first_and_only_once(start: Any) -> None:
    harness = start(trials=3)
    harness.trials.launch_ahead(2)
    assert [name for name in harness.queue.submitted if "trial" in name] == ["trial-0", "trial-1"]
    numbers = [harness.trials.launch()["number"] for _ in range(3)]
    assert numbers == [0, 1, 2]
    assert harness.trials.exhausted and harness.trials.launch() is None


def test_a_complete_trial_keeps_cells_epochs_value_and_device_seconds(start: Any) -> None:
    harness = start()
    harness.trials.launch()
    harness.complete(0, 0.7)
    record = harness.record(0)
    assert (record.state, record.value, record.parameters, record.device_seconds) == (
        "complete",
        0.7,
        10,
        2.0,
    )
    assert [e["mean"] for e in record.epochs] == pytest.approx([0.6, 0.7])
    assert record.share == 10 / harness.plan.backbone_parameters
    assert harness.queue.forgotten == ["trial-0"]


def test_epochs_told_again_after_a_resume_are_recorded_once(start: Any) -> None:
    harness = start()
    harness.trials.launch()
    harness.epochs(0, [0.1, 0.2])
    harness.epochs(0, [0.1, 0.2, 0.3])
    harness.trials.flush()
    assert [e["epoch"] for e in harness.record(0).epochs] == [1, 2, 3]


def test_a_trial_stopped_by_the_scheduler_is_pruned_and_one_by_the_user_says_so(start: Any) -> None:
    harness = start()
    for number, reason in ((0, "pruned"), (1, "cancelled")):
        harness.trials.launch()
        harness.epochs(number, [0.1])
        harness.trials.stop_early(f"trial-{number}", reason)
        harness.done(number, "cancelled")
        assert harness.record(number).state == "pruned"
    assert harness.queue.cancelled == ["trial-0", "trial-1"]
    assert harness.record(0).attributes["stopped_by"] == "scheduler"
    assert harness.record(1).attributes["stopped_by"] == "user"
    last = harness.shown[-1]
    assert isinstance(last, TrialShown) and last.state == "cancelled"


def test_failed_trials_keep_their_error_and_run_again_only_if_wanted(start: Any) -> None:
    first = start(trials=2)
    first.trials.launch()
    first.done(0, "failed", "ValueError: broken")
    assert first.record(0).error == "ValueError: broken" and first.rows.failed == [0]
    assert start(trials=2).recall().trials.launch()["number"] == 1
    again = start(trials=2, retry_failed=True).recall(retry_failed=True)
    assert again.trials.launch()["number"] == 0
    assert again.queue.submitted["trial-0"][0].retry_failed
    assert again.record(0).error is None


def test_cells_whose_workers_were_killed_for_memory_are_recorded_as_failed(start: Any) -> None:
    harness = start(trials=1)
    harness.trials.launch()
    harness.cells(0)
    ledger = Ledger(harness.store.storage)
    ledger.commit("k1-0", {"metrics": {}}, {})
    harness.done(0, "failed", "its node ran out of memory", failure="memory", killed=True)
    record = harness.record(0)
    assert (record.state, record.attributes["failure"]) == ("failed", "memory")
    assert ledger.failed() == {"k2-0", "k3-0"}
    failure = ledger.failure("k2-0")
    assert failure is not None and (failure["kind"], failure["trial"]) == ("memory", 0)


def test_failures_that_cannot_be_written_now_hold_up_nothing_and_are_written_later(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = start(trials=1)
    harness.trials.launch()
    harness.cells(0)

    def refuse(*_: object, **__: object) -> None:
        raise OSError("the store is away")

    with monkeypatch.context() as away:
        away.setattr(Ledger, "record_failure", refuse)
        harness.done(0, "failed", "its node ran out of memory", failure="memory", killed=True)
    assert harness.trials.live == 0 and harness.record(0).state == "failed"
    ledger = Ledger(harness.store.storage)
    assert ledger.failed() == set()
    harness.trials.flush()
    assert ledger.failed() == {"k1-0", "k2-0", "k3-0"}


def test_cells_are_spread_only_where_slots_would_idle(start: Any) -> None:
    harness = start(trials=3, slots=8)
    for _ in range(3):
        harness.trials.launch()
    parts = {name: harness.queue.parts[name] for name in ("trial-0", "trial-1", "trial-2")}
    assert [len(items) for items in parts.values()] == [2, 3, 3], "all eight slots are in use"
    whole = harness.queue.submitted["trial-0"][0]
    assert [part.item_id for part in parts["trial-0"]] == ["trial-0.0", "trial-0.1"]
    assert sum((part.seeds for part in parts["trial-0"]), ()) == whole.seeds

    busy = start(trials=30, slots=8, name="busy")
    for _ in range(8):
        busy.trials.launch()
    assert not any(busy.queue.parts.values()), "further trials are to come"


def test_the_last_trial_takes_the_slots_that_are_free_by_then(start: Any) -> None:
    harness = start(trials=4, slots=3)
    for _ in range(3):
        harness.trials.launch()
    harness.complete(0)
    harness.complete(1)
    harness.trials.launch()
    assert [len(harness.queue.parts[f"trial-{n}"]) for n in range(4)] == [0, 0, 0, 2]


def test_a_trial_that_has_begun_goes_on_in_the_parts_it_began_in(start: Any) -> None:
    """Its states are of those batches; one without an epoch may be divided as slots are free now."""
    first = start(trials=2, slots=4)
    for number in range(2):
        first.trials.launch()
        first.cells(number)
    first.epochs(0, [0.1])
    first.trials.stop()
    first.trials.close()
    again = start(trials=2, slots=1).recall()
    again.trials.launch()
    again.trials.launch()
    assert [len(again.queue.parts[f"trial-{n}"]) for n in range(2)] == [2, 0]


def test_when_a_budget_is_spent_no_trial_starts_and_those_in_work_finish(start: Any) -> None:
    spent: list[str] = []
    harness = start(trials=9, spent=lambda: next(iter(spent), None))
    harness.trials.launch()
    harness.trials.launch()
    spent.append("search.hours = 2")
    assert harness.trials.exhausted and harness.trials.launch() is None
    notes = [event.text for event in harness.shown if isinstance(event, NoteShown)]
    assert notes == ["The budget is spent (search.hours = 2): no new trial starts, 2 in work will finish."]
    harness.complete(0)
    assert harness.record(0).state == "complete" and not harness.queue.cancelled


def test_interrupted_trials_finish_even_if_a_budget_is_spent(start: Any) -> None:
    first = start(trials=9)
    first.trials.launch()
    first.trials.stop()
    first.trials.close()
    again = start(trials=9, spent=lambda: "search.hours = 2").recall()
    launched = again.trials.launch()
    assert launched is not None and launched["number"] == 0
    assert again.trials.launch() is None


def test_lost_trials_always_run_again(start: Any) -> None:
    first = start(trials=2)
    first.trials.launch()
    first.done(0, "lost", "3 workers died")
    assert first.record(0).state == "running" and first.rows.lost == [0]
    again = start(trials=2).recall()
    assert [again.trials.launch()["number"] for _ in range(2)] == [0, 1]


def test_an_objective_that_is_no_number_makes_a_failure(start: Any) -> None:
    harness = start()
    harness.trials.launch()
    harness.epochs(0, [float("nan")])
    harness.done(0)
    assert harness.record(0).state == "failed" and harness.record(0).attributes["failure"] == "nan"


def test_stopping_leaves_running_trials_to_be_taken_up_with_the_same_parameters(start: Any) -> None:
    first = start()
    first.trials.launch()
    first.trials.launch()
    first.complete(0)
    first.epochs(1, [0.1])
    first.trials.stop()
    first.trials.stop_early("trial-1")
    assert first.trials.exhausted and first.trials.launch() is None
    first.rows.take(Interrupted(item_id="trial-1", seconds={"total": 1.0}))
    first.trials.close()
    params = first.record(1).params
    again = start().recall()
    assert again.trials.launch()["number"] == 1
    record = again.record(1)
    assert (record.state, record.params, record.attempts) == ("running", params, 2)
    assert len(record.epochs) == 1 and record.device_seconds == 1.0


def test_an_interrupted_search_proposes_what_an_uninterrupted_one_would(start: Any, tmp_path: Path) -> None:
    whole = start(trials=8)
    for number in range(8):
        whole.trials.launch()
        whole.complete(number, 0.1 * number)
    expected = [whole.record(number).params for number in range(8)]
    for file in (tmp_path / "runs").rglob("trials/*.json"):
        file.unlink()
    for begin, end in ((0, 3), (3, 6), (6, 8)):
        part = start(trials=8).recall()
        for number in range(begin, end):
            assert part.trials.launch()["number"] == number
            part.complete(number, 0.1 * number)
    assert [part.record(number).params for number in range(8)] == expected


def test_a_complete_trial_that_lost_a_cell_runs_again(start: Any, tmp_path: Path) -> None:
    first = start(trials=1)
    first.trials.launch()
    first.complete(0)
    assert start(trials=1).recall().trials.exhausted
    (tmp_path / "runs/cells/k2-0/record.json").write_text("{ torn")
    (tmp_path / "runs/cells/k2-0/record.copy.json").write_text("{ torn")
    assert start(trials=1).recall().trials.launch()["number"] == 0


def test_a_complete_trial_that_lost_a_cell_is_not_pruned_while_it_is_mended(
    start: Any, tmp_path: Path
) -> None:
    first = start(trials=2)
    for number in range(2):
        first.trials.launch()
        first.complete(number)
    (tmp_path / "runs/cells/k2-0/record.json").unlink()
    again = start(trials=3).recall()
    for number in (0, 2):
        assert again.trials.launch()["number"] == number
        again.cells(number)
        again.trials.stop_early(f"trial-{number}")
        again.trials.ended(number, "pruned", {1: 0.4})
    assert again.queue.cancelled == ["trial-2"]
    again.epochs(0, [0.4, 0.5])
    again.done(0)
    assert again.record(0).state == "complete"
    told = again.trials._proposals._study.get_trials(deepcopy=False)
    assert [trial.state.name for trial in told if trial.intermediate_values.get(2) == 0.5] == ["COMPLETE"] * 2


def test_raising_the_budget_goes_on_with_the_next_number(start: Any) -> None:
    first = start(trials=1)
    first.trials.launch()
    first.complete(0)
    more = start(trials=2).recall()
    assert more.trials.launch()["number"] == 1


def test_what_was_trained_and_what_was_found_is_told_apart(start: Any) -> None:
    harness = start()
    harness.trials.launch()
    harness.cells(0, "finished")
    harness.trials.launch()
    harness.cells(1)
    told: dict[str, Any] = {"metrics": {}, "parameters": 10, "seconds": {}}
    harness.rows.take(CellFinished(item_id="trial-1", key="k1-1", at="", **told))
    assert harness.invocation.reused == [f"{key}-0" for key in KEYS]
    assert harness.invocation.trained == ["k1-1"]


def test_only_a_running_trial_can_be_cancelled_from_outside(start: Any) -> None:
    harness = start()
    harness.trials.launch()
    cancelling.request_cancel(harness.store, 0)
    assert cancelling.requested(harness.store) == {0: ["0.0"]}
    assert harness.trials.cancel(0) and harness.queue.cancelled == ["trial-0"]
    cancelling.clear(harness.store, ["0.0"])
    assert cancelling.requested(harness.store) == {}
    harness.done(0, "cancelled")
    with pytest.raises(ValueError, match="trial 0 is pruned"):
        cancelling.request_cancel(harness.store, 0)
    with pytest.raises(ValueError, match="no trial 7"):
        cancelling.request_cancel(harness.store, 7)
    assert not harness.trials.cancel(7)


def test_a_record_that_cannot_be_written_now_is_written_later(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = start()
    harness.trials.launch()
    save = harness.store.save_trial

    def refuse(*_: object) -> None:
        raise OSError("the store is away")

    monkeypatch.setattr(harness.store, "save_trial", refuse)
    harness.complete(0)
    assert harness.trials.live == 0 and harness.record(0).state == "running"
    monkeypatch.setattr(harness.store, "save_trial", save)
    harness.trials.flush()
    assert harness.record(0).state == "complete"


def test_who_follows_the_trials_is_told_how_each_ended_once_it_is_recorded(start: Any) -> None:
    told: list[tuple[int, str, float | None, list[str]]] = []

    def on_end(record: Any) -> None:
        assert StudyStore(store.storage, "unit").load_trial(record.number) == record
        told.append((record.number, record.state, record.value, record.keys))

    harness = start(on_end=on_end)
    store = harness.store
    for _ in range(2):
        harness.trials.launch()
    harness.complete(1, 0.6)
    harness.cells(0)
    harness.done(0, "failed", "it broke")
    assert told == [
        (1, "complete", 0.6, [f"{key}-1" for key in KEYS]),
        (0, "failed", None, [f"{key}-0" for key in KEYS]),
    ]


def test_trials_are_launched_ahead_of_their_followers_and_no_further(start: Any) -> None:
    harness = start(trials=5)
    trials = harness.trials
    trials.launch_in_background(lambda: 1)
    for _ in range(6):
        trials.launch_wanted(0.0)
    assert [name for name in harness.queue.submitted if "trial" in name] == ["trial-0", "trial-1", "trial-2"]
    assert not trials.room(2), "one follower per slot"
    followed = [trials.launch()["number"] for live in range(2) if trials.room(live)]
    assert followed == [0, 1]
    harness.complete(0)
    trials.launch_wanted(0.0)
    assert "trial-3" in harness.queue.submitted and "trial-4" not in harness.queue.submitted
    assert [trials.launch()["number"] for _ in range(2)] == [2, 3]
    assert not trials.exhausted, "one is left to be launched"
    harness.complete(1)
    trials.launch_wanted(0.0)
    assert not trials.exhausted, "one is left to be followed"
    assert trials.launch()["number"] == 4 and trials.exhausted


def test_a_launch_that_breaks_is_told_to_whoever_asks_for_trials(start: Any, monkeypatch: Any) -> None:
    harness = start()
    harness.trials.launch_in_background(lambda: 0)

    def refuse(*_: object) -> None:
        raise RuntimeError("the pool is gone")

    monkeypatch.setattr(harness.queue, "submit", refuse)
    harness.trials.launch_wanted(0.0)
    with pytest.raises(RuntimeError, match="the pool is gone"):
        harness.trials.room(0)


def test_nobody_who_tells_of_a_trial_waits_for_its_record(start: Any) -> None:
    harness = start()
    gate = threading.Event()

    class Slow(LocalStorage):
        def write(self, path: str, data: bytes) -> None:
            gate.wait(10)
            super().write(path, data)

    behind = WriteBehind(Slow(harness.store.storage.root))
    harness = start(behind=behind)
    harness.trials.launch()
    harness.complete(0, 0.7)
    assert harness.record(0).state == "running"
    gate.set()
    assert behind.close(10)
    assert (harness.record(0).state, harness.record(0).value) == ("complete", 0.7)
