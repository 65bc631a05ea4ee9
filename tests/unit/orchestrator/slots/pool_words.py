"""A clock that stands still, and the words that a test and a pool exchange."""

from __future__ import annotations

from typing import Any

from orchestrator.slots.pool import Pool
from orchestrator.work.events import (
    CellFinished,
    Done,
    EndState,
    EpochReached,
    Event,
)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


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
