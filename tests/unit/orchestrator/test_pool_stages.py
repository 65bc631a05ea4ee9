"""An item whose seeds are trained in stages waits in the pool until the driver says how it goes on."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.slots.pool import Pool
from orchestrator.work.events import Done, EpochReached, StageDone


@pytest.fixture
def pool() -> Pool:
    pool = Pool()
    pool.hello("0", "w")
    return pool


def item(name: str, seeds: int = 1, *, more: bool = False) -> dict[str, Any]:
    return {"item_id": name, "seeds": seeds, "more": more}


def train(pool: Pool, name: str, means: list[float]) -> dict[str, Any]:
    """Work the next item to its end; the item as it was handed out."""
    lease = pool.acquire("0", "w")
    assert lease is not None and lease["item"]["item_id"] == name
    events: list[Any] = [
        EpochReached(item_id=name, epoch=e, mean=m, values=[m], reports={}) for e, m in enumerate(means, 1)
    ]
    done = Done(item_id=name, state="complete", seconds={"total": 2.0})
    assert pool.report("0", "w", lease["lease"], [*events, done])
    handed: dict[str, Any] = lease["item"]
    return handed


def told(pool: Pool) -> list[type]:
    return [type(event) for _, event in pool.events(0)]


def test_a_stage_ends_without_an_end_and_the_item_goes_on_before_others(pool: Pool) -> None:
    pool.submit(item("trial-0", more=True))
    pool.submit(item("trial-1"))
    train(pool, "trial-0", [0.1, 0.2])
    assert pool.follow("trial-0", 0)["end"] is None
    stages = [event for _, event in pool.events(0) if isinstance(event, StageDone)]
    assert [(stage.item_id, stage.seconds) for stage in stages] == [("trial-0", {"total": 2.0})]
    pool.go_on(item("trial-0", 3))
    assert train(pool, "trial-0", [0.3, 0.4])["seeds"] == 3
    assert pool.follow("trial-0", 0) == {
        "epochs": [(1, 0.3), (2, 0.4)],
        "end": {"state": "complete", "error": None},
    }
    assert Done in told(pool)


def test_an_item_that_waits_is_handed_to_nobody_and_can_be_cancelled(pool: Pool) -> None:
    pool.submit(item("trial-0", more=True))
    train(pool, "trial-0", [0.1])
    assert pool.acquire("0", "w") is None
    pool.cancel("trial-0")
    assert pool.follow("trial-0", 1)["end"] == {"state": "cancelled", "error": None}
    pool.go_on(item("trial-0", 3))
    assert pool.acquire("0", "w") is None, "it has ended"


def test_going_on_twice_queues_an_item_once(pool: Pool) -> None:
    pool.submit(item("trial-0", more=True))
    train(pool, "trial-0", [0.1])
    pool.go_on(item("trial-0", 3))
    pool.go_on(item("trial-0", 3))
    train(pool, "trial-0", [0.2])
    assert pool.acquire("0", "w") is None


def test_a_stage_that_fails_or_is_cancelled_ends_its_item(pool: Pool) -> None:
    pool.submit(item("trial-0", more=True))
    lease = pool.acquire("0", "w")
    assert lease is not None
    pool.report("0", "w", lease["lease"], [Done(item_id="trial-0", state="failed", error="it broke")])
    assert pool.follow("trial-0", 0)["end"] == {"state": "failed", "error": "it broke"}


def test_a_worker_that_dies_in_a_stage_costs_the_item_nothing_but_that_attempt(pool: Pool) -> None:
    pool.submit(item("trial-0", more=True))
    assert pool.acquire("0", "w") is not None
    pool.died("0", "killed")
    pool.hello("0", "v")
    lease = pool.acquire("0", "v")
    assert lease is not None and lease["item"]["more"]


def test_while_the_pool_stops_an_item_that_waits_reads_as_stopped(pool: Pool) -> None:
    pool.submit(item("trial-0", more=True))
    train(pool, "trial-0", [0.1])
    pool.stop()
    assert pool.follow("trial-0", 1)["end"] == {"state": "stopped", "error": None}
    assert Done not in told(pool)
