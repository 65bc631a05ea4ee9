"""Trials are recorded before they are queued, followed while they train, and told once they end."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from trial_harness import KEYS

from orchestrator.ledger import Ledger, StudyStore, WriteBehind
from orchestrator.ledger.storage import LocalStorage
from orchestrator.work.shown import TrialShown


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


def test_slots_that_would_wait_for_the_first_probe_share_it(start: Any) -> None:
    harness = start(slots=2)
    harness.trials.launch()
    (probe,) = (name for name in harness.queue.submitted if name.startswith("probe"))
    parts = harness.queue.parts[probe]
    assert [len(part.seeds) for part in parts] == [1, 2] and {part.purpose for part in parts} == {"probe"}
    assert harness.queue.parts["trial-0"] == []
    alone = start(slots=1, name="alone")
    alone.trials.launch()
    assert not any(alone.queue.parts.values()), "one slot trains the seeds together"


def test_work_queued_ahead_is_handed_out_first_and_only_once(start: Any) -> None:
    harness = start(trials=3)
    harness.trials.launch_ahead(2)
    assert [name for name in harness.queue.submitted if "trial" in name] == ["trial-0", "trial-1"]
    numbers = [harness.trials.launch()["number"] for _ in range(3)]
    assert numbers == [0, 1, 2]
    assert harness.trials.exhausted and harness.trials.launch() is None


def test_how_many_are_in_work_is_known_of_the_last_trials_only(start: Any) -> None:
    harness = start(trials=3)
    harness.trials.launch()
    harness.trials.launch()
    assert harness.trials.last_in_work is None, "a third will come"
    harness.trials.launch()
    assert harness.trials.last_in_work == 3
    harness.complete(1)
    assert harness.trials.last_in_work == 2
    harness.trials.stop()
    assert harness.trials.last_in_work is None, "the next run may have more"


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
