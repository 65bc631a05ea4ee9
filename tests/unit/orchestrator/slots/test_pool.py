"""Work is handed out once and in order, waited for, given back, cancelled and stopped."""

from __future__ import annotations

import pytest
from pool_words import Clock, done, epoch, item, kinds, take, work

from orchestrator.slots.pool import Pool
from orchestrator.work.events import (
    Done,
    EndState,
    Leased,
    Requeued,
    SlotEvent,
    SlotGone,
    SlotStopped,
)


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
