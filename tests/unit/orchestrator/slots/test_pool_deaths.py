"""Workers that die, stand still, fall silent or come back, and what counts for whom."""

from __future__ import annotations

from dataclasses import replace

from pool_words import Clock, done, finished, item, take

from orchestrator.slots.pool import Pool
from orchestrator.slots.worker import ACQUIRE_S
from orchestrator.work.events import (
    Done,
    Leased,
    Requeued,
    Silence,
    SlotStopped,
)


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
