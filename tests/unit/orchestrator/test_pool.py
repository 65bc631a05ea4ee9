"""Leases, deaths, dependencies and cancellation in the pool, with a clock of our own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from orchestrator.slots.pool import Pool
from orchestrator.slots.worker import ACQUIRE_S
from orchestrator.work.events import (
    CellFinished,
    Done,
    EndState,
    EpochReached,
    Event,
    Leased,
    Requeued,
    Silence,
    SlotEvent,
    SlotGone,
    SlotStopped,
)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pool(clock: Clock) -> Pool:
    return Pool(clock=clock, patience=60.0, deaths=3)


def item(name: str) -> dict[str, Any]:
    return {"item_id": name}


def done(name: str, state: EndState = "complete", error: str | None = None) -> Done:
    return Done(item_id=name, state=state, error=error, seconds={"total": 1.0})


def epoch(name: str, number: int, mean: float = 0.5) -> EpochReached:
    return EpochReached(item_id=name, epoch=number, mean=mean, values=[mean], reports={})


def finished(name: str) -> CellFinished:
    return CellFinished(item_id=name, key="k", at="", metrics={}, parameters=1, seconds={})


def kinds(pool: Pool, after: int = 0) -> list[type[Event]]:
    return [type(event) for _, event in pool.events(after)]


def take(pool: Pool, slot: str = "0", worker: str = "w") -> dict[str, Any]:
    lease = pool.acquire(slot, worker)
    assert lease is not None and "stop" not in lease
    return lease


def work(pool: Pool, name: str, slot: str = "0", worker: str = "w", state: EndState = "complete") -> None:
    lease = take(pool, slot, worker)
    assert lease["item"]["item_id"] == name
    assert pool.report(slot, worker, lease["lease"], [done(name, state)])


def test_items_are_handed_out_once_and_in_order(pool: Pool) -> None:
    pool.hello("0", "w")
    pool.hello("1", "v")
    pool.submit(item("a"))
    pool.submit(item("b"))
    assert take(pool)["item"] == item("a")
    assert take(pool, "1", "v")["item"] == item("b")


def test_an_item_that_is_known_is_not_queued_again(pool: Pool) -> None:
    pool.hello("0", "w")
    assert pool.submit(item("probe"))
    assert not pool.submit(item("probe"))
    work(pool, "probe")
    assert not pool.submit(item("probe"))
    assert pool.acquire("0", "w") is None


def test_an_item_waits_for_what_it_needs(pool: Pool) -> None:
    pool.hello("0", "w")
    pool.hello("1", "v")
    pool.submit(item("probe"))
    pool.submit(item("a"), ["probe"])
    pool.submit(item("b"), ["probe"])
    pool.submit(item("free"))
    lease = take(pool)
    assert lease["item"] == item("probe")
    assert take(pool, "1", "v")["item"] == item("free")
    pool.report("0", "w", lease["lease"], [done("probe")])
    pool.forget("probe")
    assert take(pool)["item"] == item("a")


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_what_needs_an_item_that_did_not_complete_ends_like_it(pool: Pool, state: EndState) -> None:
    pool.hello("0", "w")
    pool.submit(item("probe"))
    pool.submit(item("a"), ["probe"])
    lease = take(pool)
    pool.report("0", "w", lease["lease"], [done("probe", state, "it broke")])
    assert pool.follow("a", 0)["end"] == {"state": state, "error": "it broke"}
    pool.submit(item("later"), ["probe"])
    assert pool.follow("later", 0)["end"]["state"] == state


def test_followers_get_each_epoch_once_and_only_those_that_advance(pool: Pool) -> None:
    pool.hello("0", "w")
    pool.submit(item("a"))
    lease = take(pool)["lease"]
    pool.report("0", "w", lease, [epoch("a", 1, 0.1), epoch("a", 2, 0.2), epoch("a", 2, 0.9)])
    assert pool.follow("a", 0) == {"epochs": [(1, 0.1), (2, 0.2)], "end": None}
    pool.report("0", "w", lease, [epoch("a", 1, 0.1), epoch("a", 3, 0.3)])
    assert pool.follow("a", 2) == {"epochs": [(3, 0.3)], "end": None}
    pool.report("0", "w", lease, [done("a")])
    assert pool.follow("a", 3)["end"] == {"state": "complete", "error": None}


def test_a_dead_workers_item_is_queued_in_front_and_its_late_words_are_ignored(pool: Pool) -> None:
    pool.hello("0", "w")
    pool.submit(item("a"))
    pool.submit(item("b"))
    lease = take(pool)["lease"]
    pool.died("0", "killed")
    assert not pool.report("0", "w", lease, [done("a")])
    assert not pool.wish("0", "w", lease)["valid"]
    pool.hello("0", "w2")
    assert take(pool, "0", "w2")["item"] == item("a")
    assert pool.follow("a", 0)["end"] is None


def test_a_new_worker_of_a_slot_means_that_the_former_one_is_dead(pool: Pool) -> None:
    pool.hello("0", "w")
    pool.submit(item("a"))
    take(pool)
    pool.hello("0", "w2")
    assert take(pool, "0", "w2")["item"] == item("a")


def test_a_silent_worker_counts_as_dead(pool: Pool, clock: Clock) -> None:
    pool.hello("0", "w")
    pool.hello("1", "v")
    pool.submit(item("a"))
    lease = take(pool)["lease"]
    for clock.now in range(59):
        assert pool.acquire("1", "v") is None
    clock.now = 59.0
    assert pool.wish("0", "w", lease)["valid"]
    for clock.now in range(60, 119):
        assert pool.acquire("1", "v") is None
    clock.now = 120.0
    assert take(pool, "1", "v")["item"] == item("a")


def silences(pool: Pool) -> list[Silence]:
    return [event for _, event in pool.events(0) if isinstance(event, Silence)]


def silent(seconds: float) -> Silence:
    return Silence(slot="0", seconds=seconds, patience=60.0)


def heard(seconds: float) -> Silence:
    return Silence(slot="0", over=True, seconds=seconds, patience=60.0)


def test_a_worker_that_stands_still_is_named_once_and_once_when_it_is_back(pool: Pool, clock: Clock) -> None:
    pool.hello("0", "w")
    pool.submit(item("a"))
    lease = take(pool)["lease"]
    for clock.now in range(46):
        pool.expire()
    assert silences(pool) == [silent(25.0)]
    assert pool.wish("0", "w", lease)["valid"], "it is not taken for dead yet"
    for clock.now in range(46, 56):
        pool.expire()
    assert silences(pool) == [silent(25.0), heard(45.0)]


def test_a_worker_whose_epochs_take_minutes_does_not_stand_still(pool: Pool, clock: Clock) -> None:
    pool.hello("0", "w")
    pool.submit(item("a"))
    lease = take(pool)["lease"]
    for clock.now in range(600):
        pool.expire()
        if clock.now % int(ACQUIRE_S) == 0:
            pool.wish("0", "w", lease)
    assert silences(pool) == []


def test_a_worker_without_work_or_one_that_loads_for_minutes_is_not_named(pool: Pool, clock: Clock) -> None:
    pool.hello("0", "w")
    for clock.now in range(600):
        pool.expire()
    assert silences(pool) == []


def test_a_worker_that_was_taken_for_dead_and_comes_back_works_again(pool: Pool, clock: Clock) -> None:
    pool.hello("0", "w")
    pool.submit(item("a"))
    late = take(pool)["lease"]
    for clock.now in range(91):
        pool.expire()
    assert not pool.report("0", "w", late, [done("a")]), "its item was queued again"
    assert pool.acquire("0", "w") == {"again": True}
    assert pool.hello("0", "w")
    assert silences(pool) == [silent(25.0), heard(90.0)]
    assert take(pool)["item"] == item("a")


def test_a_worker_with_a_successor_does_not_come_back(pool: Pool, clock: Clock) -> None:
    pool.hello("0", "w")
    pool.submit(item("a"))
    take(pool)
    for clock.now in range(61):
        pool.expire()
    pool.hello("0", "w2")
    assert pool.acquire("0", "w") == {"stop": True}


def test_a_silent_worker_is_not_heard_of_because_nobody_listened(pool: Pool, clock: Clock) -> None:
    pool.hello("0", "w")
    pool.submit(item("a"))
    take(pool)
    for clock.now in range(31):
        pool.expire()
    clock.now = 7200.0
    pool.expire()
    assert silences(pool) == [silent(25.0)]


def test_silence_while_the_pool_was_stopped_is_nobodys_death(pool: Pool, clock: Clock) -> None:
    pool.hello("0", "w")
    pool.submit(item("a"))
    lease = take(pool)["lease"]
    clock.now = 7200.0
    pool.expire()
    assert pool.wish("0", "w", lease)["valid"], "its calls of two hours are still to be answered"


def test_an_item_that_kills_its_workers_is_lost(pool: Pool) -> None:
    pool.submit(item("poison"))
    for attempt in range(3):
        pool.hello(str(attempt), "w")
        take(pool, str(attempt), "w")
        pool.died(str(attempt), "killed")
    end = pool.follow("poison", 0)["end"]
    assert end["state"] == "lost" and "3 workers died" in end["error"]


RAY_SAYS = (
    "A worker health check failed.\n"
    "Task was killed due to the node running low on memory.\n"
    "Memory on the node was 60.1GB / 63.0GB (0.95), which exceeds the memory usage threshold of 0.95."
)
KILLED = "The actor is dead: SIGKILL by OOM killer due to high memory usage, or ray stop --force"


def test_an_item_whose_workers_ray_kills_for_memory_has_failed_and_the_slot_is_not_blamed(pool: Pool) -> None:
    pool.submit(item("large"))
    for attempt in range(2):
        pool.hello("0", f"w{attempt}")
        take(pool, "0", f"w{attempt}")
        assert pool.died("0", RAY_SAYS)
    last = next(event for _, event in pool.events(0) if isinstance(event, Done))
    assert (last.state, last.failure, last.killed) == ("failed", "memory", True)
    assert "running low on memory" in str(last.error) and "compute.max_memory_gb" in str(last.error)
    assert pool.died("0", KILLED) and pool.died("0", KILLED), "two deaths of its own"


def test_a_worker_that_was_killed_says_nothing_about_memory(pool: Pool) -> None:
    pool.submit(item("a"))
    for slot in "01":
        pool.hello(slot, "w")
        take(pool, slot)
        pool.died(slot, KILLED)
    assert pool.follow("a", 0)["end"] is None


def test_an_item_that_kills_a_proven_slot_is_to_blame_and_the_next_one_is_not(pool: Pool) -> None:
    """A slot that finished a cell keeps its three deaths after an item took them; but only once."""
    pool.hello("0", "w")
    pool.submit(item("good"))
    lease = take(pool)["lease"]
    pool.report("0", "w", lease, [finished("good"), done("good")])
    pool.bye("0", "w")
    for name, survives in (("poison", True), ("next", False)):
        pool.submit(item(name))
        for attempt in range(3):
            if pool.hello("0", f"{name}{attempt}") and take(pool, "0", f"{name}{attempt}"):
                alive = pool.died("0", "killed")
        assert alive == survives, name


def test_a_worker_that_leaves_after_a_hung_cell_does_not_count_as_dead(pool: Pool) -> None:
    for number in range(4):
        worker, name = f"w{number}", f"i{number}"
        assert pool.hello("0", worker)
        pool.submit(item(name))
        lease = take(pool, "0", worker)["lease"]
        assert pool.report("0", worker, lease, [replace(done(name, "failed", "hung"), failure="timeout")])
        pool.leave("0", worker)
        assert pool.died("0", "exit code 75")


def test_a_slot_that_dies_three_times_without_a_cell_stops_with_its_error(pool: Pool) -> None:
    for attempt in range(3):
        assert pool.hello("0", f"w{attempt}")
        survives = pool.died("0", "out of memory")
    assert not survives
    assert not pool.hello("0", "w3")
    last = pool.events(0)[-1][1]
    assert last == SlotStopped(slot="0", error="out of memory")


def test_a_finished_cell_forgives_a_slot_its_deaths(pool: Pool) -> None:
    for attempt in range(5):
        pool.hello("0", f"w{attempt}")
        pool.submit(item(f"i{attempt}"))
        lease = take(pool, "0", f"w{attempt}")
        pool.report("0", f"w{attempt}", lease["lease"], [finished(lease["item"]["item_id"])])
        assert pool.died("0", "killed")


def test_a_death_that_turns_out_to_be_its_nodes_counts_for_nobody(pool: Pool, clock: Clock) -> None:
    pool.submit(item("a"))
    for _ in range(5):
        pool.hello("far", "w")
        assert take(pool, "far")["item"] == item("a"), "queued again at once, whatever the reason"
        assert pool.died("far", "connection reset", grace=90.0)
        pool.lost("far")
    clock.now = 1000.0
    pool.expire()
    pool.hello("far", "w")
    assert take(pool, "far")["item"] == item("a")
    told = [event for _, event in pool.events(0) if isinstance(event, Leased | Requeued)]
    assert len(told) == 11 and {event.deaths for event in told} == {0}


def test_a_death_in_doubt_counts_when_time_is_up(pool: Pool, clock: Clock) -> None:
    pool.submit(item("poison"))
    for slot in "012":
        pool.hello(slot, "w")
        take(pool, slot, "w")
        assert pool.died(slot, "killed", grace=90.0)
    pool.hello("3", "w")
    assert pool.acquire("3", "w") is None, "it may be what kills them"
    assert pool.follow("poison", 0)["end"] is None
    clock.now = 90.0
    pool.expire()
    assert pool.follow("poison", 0)["end"]["state"] == "lost"


def test_an_item_in_doubt_is_handed_out_once_its_nodes_are_known_to_be_gone(pool: Pool) -> None:
    pool.submit(item("a"))
    for slot in "012":
        pool.hello(slot, "w")
        take(pool, slot, "w")
        pool.died(slot, "connection reset", grace=90.0)
    pool.hello("3", "w")
    pool.lost("1")
    assert take(pool, "3")["item"] == item("a")


def test_another_worker_of_a_slot_shows_that_its_node_lives(pool: Pool) -> None:
    for attempt in range(2):
        assert pool.hello("0", f"w{attempt}")
        assert pool.died("0", "segmentation fault", grace=90.0)
    assert pool.hello("0", "w2")
    assert pool.died("0", "segmentation fault", grace=90.0)
    assert not pool.hello("0", "w3"), "that was the third death"
    assert isinstance(pool.events(0)[-1][1], SlotStopped)


def test_a_drained_slot_gives_its_item_back_and_takes_no_other(pool: Pool) -> None:
    pool.hello("0", "w")
    pool.hello("1", "v")
    pool.submit(item("a"))
    pool.submit(item("b"))
    lease = take(pool)["lease"]
    pool.drain("0")
    assert pool.wish("0", "w", lease)["cancel"]
    pool.report("0", "w", lease, [done("a", "cancelled")])
    assert pool.acquire("0", "w") == {"stop": True}
    pool.bye("0", "w")
    assert take(pool, "1", "v")["item"] == item("a"), "in front"
    told = [event for _, event in pool.events(0) if isinstance(event, Requeued | SlotEvent | Done)][2:]
    assert told == [Requeued(item_id="a", deaths=0, seconds={"total": 1.0}), SlotGone(slot="0")]
    assert pool.hello("0", "w2"), "the node is back: the slot is a new one"


def test_what_ends_while_its_slot_drains_has_ended(pool: Pool) -> None:
    pool.hello("0", "w")
    pool.submit(item("a"))
    pool.submit(item("b"))
    lease = take(pool)["lease"]
    pool.drain("0")
    pool.report("0", "w", lease, [done("a")])
    assert pool.follow("a", 0)["end"]["state"] == "complete"
    assert pool.acquire("0", "w") == {"stop": True}


def test_a_slot_that_dies_while_it_drains_is_gone_and_nothing_counts(pool: Pool) -> None:
    pool.hello("0", "w")
    pool.submit(item("a"))
    take(pool)
    pool.drain("0")
    assert not pool.died("0", "killed"), "no other worker is wanted"
    pool.hello("1", "v")
    assert pool.acquire("1", "v") is not None
    last = pool.events(0)[-1][1]
    assert isinstance(last, Leased) and last.deaths == 0


def test_an_input_error_stops_the_slot_at_once(pool: Pool) -> None:
    pool.hello("0", "w")
    pool.bye("0", "w", "no such dataset", final=True)
    assert pool.events(0)[-1][1] == SlotStopped(slot="0", error="no such dataset")
    assert pool.acquire("0", "w") == {"stop": True}


def test_cancelling_reaches_the_worker_or_ends_what_is_still_queued(pool: Pool) -> None:
    pool.hello("0", "w")
    pool.submit(item("a"))
    pool.submit(item("b"))
    lease = take(pool)["lease"]
    pool.cancel("a")
    pool.cancel("b")
    assert pool.wish("0", "w", lease)["cancel"]
    assert pool.follow("b", 0)["end"]["state"] == "cancelled"
    pool.report("0", "w", lease, [done("a", "cancelled")])
    assert pool.acquire("0", "w") is None


def test_single_cells_can_be_cancelled(pool: Pool) -> None:
    pool.hello("0", "w")
    pool.submit(item("a"))
    lease = take(pool)["lease"]
    pool.cancel("a", ["k2", "k1"])
    assert pool.wish("0", "w", lease) == {"cancel": False, "cancelled_keys": ["k1", "k2"], "valid": True}


def test_stopping_cancels_the_work_but_nothing_counts_as_cancelled(pool: Pool) -> None:
    pool.hello("0", "w")
    pool.submit(item("a"))
    pool.submit(item("b"))
    lease = take(pool)["lease"]
    pool.stop()
    assert pool.wish("0", "w", lease)["cancel"]
    pool.report("0", "w", lease, [done("a", "cancelled")])
    assert pool.acquire("0", "w") == {"stop": True}
    assert Done not in kinds(pool)
    assert pool.follow("a", 0)["end"]["state"] == "stopped"
    assert not pool.hello("1", "v")


def test_an_item_that_completes_while_the_pool_stops_is_complete(pool: Pool) -> None:
    pool.hello("0", "w")
    pool.submit(item("a"))
    lease = take(pool)["lease"]
    pool.stop()
    pool.report("0", "w", lease, [done("a")])
    assert pool.follow("a", 0)["end"]["state"] == "complete"


def test_events_are_dropped_once_they_are_read(pool: Pool) -> None:
    pool.hello("0", "w")
    pool.submit(item("a"))
    take(pool)
    first = pool.events(0)
    assert pool.events(0) == first, "a reader that was interrupted reads again"
    assert pool.events(first[-1][0]) == []


def test_every_change_is_notified(clock: Clock) -> None:
    topics: list[str] = []
    pool = Pool(clock=clock, notify=topics.append)
    pool.hello("0", "w")
    pool.submit(item("a"))
    assert "queue" in topics
    lease = take(pool)["lease"]
    topics.clear()
    pool.cancel("a")
    assert topics == ["worker:w"]
    pool.report("0", "w", lease, [done("a", "cancelled")])
    assert {"item:a", "driver", "queue"} <= set(topics)


class AnyOrder(RuleBasedStateMachine):
    """Whatever the order of submissions, leases, deaths and ends: nothing is lost or runs twice at once."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = Pool(clock=lambda: 0.0, deaths=1000)
        self.workers: dict[str, str] = {}
        self.leases: dict[str, dict[str, Any]] = {}
        self.submitted: set[str] = set()
        self.ended: set[str] = set()
        self.serial = 0

    @rule(slot=st.sampled_from("012"))
    def worker_comes_up(self, slot: str) -> None:
        self.serial += 1
        self.workers[slot] = f"w{self.serial}"
        self.leases.pop(slot, None)
        assert self.pool.hello(slot, self.workers[slot])

    @rule(name=st.sampled_from("abcdef"))
    def submit(self, name: str) -> None:
        assert self.pool.submit(item(name)) == (name not in self.submitted)
        self.submitted.add(name)

    @precondition(lambda self: set(self.workers) - set(self.leases))
    @rule(data=st.data())
    def acquire(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(sorted(set(self.workers) - set(self.leases))))
        lease = self.pool.acquire(slot, self.workers[slot])
        running = {held["item"]["item_id"] for held in self.leases.values()}
        waiting = self.submitted - self.ended - running
        assert (lease is None) == (not waiting)
        if lease is not None:
            assert lease["item"]["item_id"] in waiting
            self.leases[slot] = lease

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(sorted(self.leases)))
        lease = self.leases.pop(slot)
        name = lease["item"]["item_id"]
        assert self.pool.report(slot, self.workers[slot], lease["lease"], [done(name)])
        self.ended.add(name)

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), grace=st.sampled_from([0.0, 90.0]), node_too=st.booleans())
    def die(self, data: st.DataObject, grace: float, node_too: bool) -> None:
        slot = data.draw(st.sampled_from(sorted(self.workers)))
        worker, lease = self.workers.pop(slot), self.leases.pop(slot, None)
        self.pool.died(slot, "killed", grace=grace)
        if node_too:
            self.pool.lost(slot)
        if lease is not None:
            assert not self.pool.report(slot, worker, lease["lease"], [done(lease["item"]["item_id"])])

    @precondition(lambda self: self.workers)
    @rule(data=st.data())
    def drain(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(sorted(self.workers)))
        worker, lease = self.workers.pop(slot), self.leases.pop(slot, None)
        self.pool.drain(slot)
        if lease is not None:
            name = lease["item"]["item_id"]
            assert self.pool.report(slot, worker, lease["lease"], [done(name, "cancelled")])
        assert self.pool.acquire(slot, worker) == {"stop": True}
        self.pool.bye(slot, worker)

    @invariant()
    def ends_are_those_reported(self) -> None:
        for name in self.submitted:
            assert (self.pool.follow(name, 0)["end"] is not None) == (name in self.ended)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
