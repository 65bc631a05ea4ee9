"""The pool as a Ray actor: the same methods, and long polls so that nobody has to ask often."""

from __future__ import annotations

import asyncio
import functools
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from orchestrator.slots.pool import PATIENCE, Pool
from orchestrator.work.doing import Doing
from orchestrator.work.events import Event, WorkEvent

T = TypeVar("T")


class PoolActor:
    """Asynchronous shell around ``Pool``; every call runs on one event loop, so the pool needs no locks.

    ``acquire``, ``wish``, ``follow`` and ``events`` answer when there is something to say, or when their
    ``timeout`` in seconds has passed. All other methods are the pool's own.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Future[None]]] = defaultdict(set)
        self._pool = Pool(notify=self._wake)

    async def ready(self) -> bool:
        """True, once the actor runs."""
        return True

    async def submit(
        self,
        item: dict[str, Any],
        needs: Sequence[str] = (),
        first: bool = False,
        parts: Sequence[dict[str, Any]] = (),
    ) -> bool:
        return self._pool.submit(item, needs, first=first, parts=parts)

    async def cancel(self, item_id: str, keys: Sequence[str] | None = None) -> None:
        self._pool.cancel(item_id, keys)

    async def go_on(self, item: dict[str, Any]) -> None:
        self._pool.go_on(item)

    async def forget(self, item_id: str) -> None:
        self._pool.forget(item_id)

    async def stop(self) -> None:
        self._pool.stop()

    async def hello(self, slot: str, worker: str) -> bool:
        return self._pool.hello(slot, worker)

    async def report(self, slot: str, worker: str, lease: int, events: Sequence[WorkEvent]) -> bool:
        return self._pool.report(slot, worker, lease, events)

    async def bye(self, slot: str, worker: str, error: str | None = None, final: bool = False) -> None:
        self._pool.bye(slot, worker, error, final=final)

    async def leave(self, slot: str, worker: str) -> None:
        self._pool.leave(slot, worker)

    async def placed(self, slot: str, placement_group: str) -> None:
        self._pool.placed(slot, placement_group)

    async def measured(self, slot: str, worker: str, memory: dict[str, int]) -> None:
        self._pool.measured(slot, worker, memory)

    async def doing(self, slot: str, worker: str, doing: Doing) -> None:
        self._pool.doing(slot, worker, doing)

    async def died(self, slot: str, error: str, grace: float = 0.0) -> bool:
        return self._pool.died(slot, error, grace=grace)

    async def drain(self, slot: str) -> None:
        self._pool.drain(slot)

    async def lost(self, slot: str) -> None:
        self._pool.lost(slot)

    async def acquire(self, slot: str, worker: str, timeout: float) -> dict[str, Any] | None:
        attempt = functools.partial(self._pool.acquire, slot, worker)
        return await self._until(attempt, lambda answer: answer is not None, "queue", timeout)

    async def wish(
        self, slot: str, worker: str, lease: int, known: dict[str, Any], timeout: float
    ) -> dict[str, Any]:
        attempt = functools.partial(self._pool.wish, slot, worker, lease)
        return await self._until(attempt, lambda answer: answer != known, f"worker:{worker}", timeout)

    async def follow(self, item_id: str, after: int, timeout: float) -> dict[str, Any]:
        attempt = functools.partial(self._pool.follow, item_id, after)
        return await self._until(
            attempt, lambda news: bool(news["epochs"] or news["end"]), f"item:{item_id}", timeout
        )

    async def events(self, after: int, timeout: float) -> list[tuple[int, Event]]:
        self._pool.expire()
        return await self._until(functools.partial(self._pool.events, after), bool, "driver", timeout)

    async def _until(
        self, attempt: Callable[[], T], is_answer: Callable[[T], bool], topic: str, timeout: float
    ) -> T:
        deadline = asyncio.get_running_loop().time() + timeout
        while not is_answer(answer := attempt()):
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0 or not await self._changed(topic, left):
                return attempt()
        return answer

    async def _changed(self, topic: str, timeout: float) -> bool:
        change: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[topic].add(change)
        done, _ = await asyncio.wait([change], timeout=timeout)
        waiting = self._waiting[topic]
        waiting.discard(change)
        if not waiting:
            del self._waiting[topic]
        return bool(done)

    def _wake(self, topic: str) -> None:
        for change in self._waiting.get(topic, ()):
            if not change.done():
                change.set_result(None)


def start_pool() -> Any:
    """A new pool actor beside the driver, which it does not outlive."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = ray.remote(num_cpus=0, max_concurrency=10_000, scheduling_strategy=here)(PoolActor)
    return actor.remote()


LONG_POLL = PATIENCE / 6
"""Seconds that a worker's question may stay open: well below the silence that means death."""
