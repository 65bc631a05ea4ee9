"""The items of the pool: queued, held by a worker, ended; what they need, and what becomes of their parts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.slots.joined import Joined
from orchestrator.slots.news import News
from orchestrator.work.events import (
    Done,
    EndState,
    EpochReached,
    Leased,
    PartDone,
    Requeued,
    Seconds,
    StageDone,
    WorkEvent,
)
from orchestrator.work.failures import death_in_words

MEMORY_DEATHS = 2
"""Workers that Ray killed for their node's memory while they worked on an item: then the item has failed. One
may have been the nearest to hand while another program took the memory."""


@dataclass(frozen=True)
class _End:
    state: EndState
    error: str | None

    def to_dict(self) -> dict[str, Any]:
        return {"state": self.state, "error": self.error}


@dataclass
class PoolItem:
    """One item, or a part of one.

    Attributes:
        item: ``WorkItem.to_dict()``.
        needs: ids of items that must complete before it starts.
        worker, lease: who holds it; None and 0: nobody.
        deaths, memory_deaths: workers that died while they held it, of any cause and of memory.
        error: what is known of the last death.
        whole: id of the item that it is a part of.
        joined: its parts, if it has any.
        epochs: numbers and means that followers are told.
        end: how it ended.
        cancel, cancelled_keys: what is wanted of it.
        waits: its seeds are trained, and nobody has said yet whether it goes on.
    """

    item: dict[str, Any]
    needs: tuple[str, ...]
    worker: str | None = None
    lease: int = 0
    deaths: int = 0
    memory_deaths: int = 0
    error: str = ""
    whole: str | None = None
    joined: Joined | None = None
    epochs: list[tuple[int, float | None]] = field(default_factory=list)
    end: _End | None = None
    cancel: bool = False
    cancelled_keys: frozenset[str] = frozenset()
    waits: bool = False

    @property
    def last_epoch(self) -> int:
        return self.epochs[-1][0] if self.epochs else 0


class Items:
    """All items of one study.

    Args:
        news: takes what is told of them.
        deaths: of workers on an item that end it.
    """

    def __init__(self, news: News, deaths: int) -> None:
        self._news, self._deaths = news, deaths
        self._items: dict[str, PoolItem] = {}
        self._ended: dict[str, _End] = {}
        self._queue: deque[str] = deque()
        self._leases = 0

    def __getitem__(self, item_id: str) -> PoolItem:
        return self._items[item_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def submit(
        self, item: dict[str, Any], needs: Sequence[str], *, first: bool, parts: Sequence[dict[str, Any]]
    ) -> bool:
        """Queue an item or its parts; False if one of its id is known."""
        item_id = item["item_id"]
        if item_id in self._items or item_id in self._ended:
            return False
        unknown = [n for n in needs if n not in self._items and n not in self._ended]
        assert not unknown, f"{item_id} needs {unknown[0]}, which was never submitted"
        ids = [part["item_id"] for part in parts]
        self._items[item_id] = PoolItem(item, tuple(needs), joined=Joined(item_id, ids) if ids else None)
        for part in parts:
            self._items[part["item_id"]] = PoolItem(part, tuple(needs), whole=item_id)
        if first:
            self._queue.extendleft(reversed(ids or [item_id]))
        else:
            self._queue.extend(ids or [item_id])
        self._settle_needs()
        self._news.notify("queue")
        return True

    def cancel(self, item_id: str, keys: Iterable[str] | None = None) -> None:
        """Stop an item, or leave out some of its cells. Unknown or ended items are left alone."""
        entry = self._items.get(item_id)
        if entry is None or entry.end is not None:
            return
        if entry.joined is not None:
            for part in entry.joined.parts:
                self.cancel(part, keys)
        elif keys is not None:
            entry.cancelled_keys |= frozenset(keys)
        elif entry.worker is None:
            self.end(Done(item_id=item_id, state="cancelled"))
        else:
            entry.cancel = True
        if entry.worker is not None:
            self._news.notify(f"worker:{entry.worker}")

    def forget(self, item_id: str) -> None:
        """Drop what is kept for followers of an ended item; it still satisfies those that need it."""
        entry = self._items.get(item_id)
        if entry is not None and entry.end is not None:
            self._ended[item_id] = entry.end
            for name in (item_id, *(entry.joined.parts if entry.joined else ())):
                del self._items[name]

    def follow(self, item_id: str, after: int) -> dict[str, Any]:
        """Epochs later than ``after``, and the end; see ``Pool.follow``."""
        entry = self._items.get(item_id)
        if entry is None:
            end = self._ended.get(item_id, _End("lost", "unknown item"))
            return {"epochs": [], "end": end.to_dict()}
        epochs = [e for e in entry.epochs if e[0] > after]
        return {"epochs": epochs, "end": None if entry.end is None else entry.end.to_dict()}

    def lease(self, slot: str, worker: str, doubtful: Callable[[str], int]) -> PoolItem | None:
        """Hand the next item that may start to a worker; None if there is none.

        Args:
            slot, worker: who takes it.
            doubtful: how many deaths of an item's workers do not count yet.
        """
        for item_id in self._queue:
            entry = self._items[item_id]
            if entry.deaths + doubtful(item_id) >= self._deaths:
                continue  # it may kill whoever takes it: known once the doubts are settled
            if all(self._state(n) == "complete" for n in entry.needs):
                self._queue.remove(item_id)
                self._leases += 1
                entry.worker, entry.lease = worker, self._leases
                told, part = self.names(item_id)
                self._news.tell(Leased(item_id=told, part=part, slot=slot, deaths=entry.deaths))
                return entry
        return None

    def take(self, item_id: str, event: WorkEvent) -> None:
        """Tell what a worker tells of the item, or what follows of its whole; any but the end."""
        entry = self._items[item_id]
        whole = self._items[entry.whole].joined if entry.whole else None
        for told in [event] if whole is None else whole.take(item_id, event):
            self._publish(told)

    def go_on(self, item: dict[str, Any]) -> None:
        """Queue an item that waits after a stage again, in front, with more cells. Others are left alone.

        Epochs are told anew, for all its cells.
        """
        entry = self._items.get(item["item_id"])
        if entry is None or not entry.waits:
            return
        entry.item, entry.waits, entry.epochs = item, False, []
        self._queue.appendleft(item["item_id"])
        self._news.notify("queue")

    def end(self, done: Done) -> None:
        """End an item or a part; one that may go on waits if it is complete."""
        item_id = done.item_id
        entry = self._items[item_id]
        if done.state == "complete" and entry.item.get("more"):
            entry.worker, entry.lease, entry.waits = None, 0, True
            self._news.tell(StageDone(item_id=item_id, seconds=done.seconds))
            self._news.notify("queue")
            return
        entry.end, entry.worker, entry.lease = _End(done.state, done.error), None, 0
        entry.waits = False
        if item_id in self._queue:
            self._queue.remove(item_id)
        if entry.whole is None:
            self._news.tell(done)
        else:
            self._end_part(entry.whole, done)
        self._news.notify(f"item:{item_id}")
        self._news.notify("queue")
        self._settle_needs()

    def release(
        self,
        item_id: str,
        error: str,
        *,
        counted: bool,
        for_memory: bool = False,
        seconds: Seconds | None = None,
    ) -> bool:
        """Queue an item whose worker is gone again, in front; True if it has killed too many and is lost.

        Args:
            item_id: the item.
            error: what is known of the worker's death.
            counted: the death counts.
            for_memory: the node had no memory left.
            seconds: of work, if known.
        """
        entry = self._items[item_id]
        entry.worker, entry.lease, entry.error = None, 0, error
        entry.deaths += counted
        entry.memory_deaths += for_memory
        seconds = seconds or {}
        if entry.cancel:
            self.end(Done(item_id=item_id, state="cancelled", seconds=seconds))
        elif entry.memory_deaths >= MEMORY_DEATHS:
            told = _out_of_memory(error)
            self.end(Done(item_id=item_id, state="failed", error=told, failure="memory", killed=True))
        elif entry.deaths >= self._deaths:
            self._lose(item_id, entry)
            return True
        else:
            self._queue.appendleft(item_id)
            name, part = self.names(item_id)
            self._news.tell(Requeued(item_id=name, part=part, deaths=entry.deaths, seconds=seconds))
            self._news.notify("queue")
        return False

    def blame(self, item_id: str) -> bool:
        """Count a death that was in doubt; True if the item is lost by that."""
        entry = self._items.get(item_id)
        if entry is None or entry.end is not None:
            return False
        entry.deaths += 1
        if entry.deaths < self._deaths or entry.worker is not None:
            return False
        self._lose(item_id, entry)
        return True

    def names(self, item_id: str) -> tuple[str, str | None]:
        """How an item is told of, and its part: a part under the name of its whole."""
        whole = self._items[item_id].whole
        return (item_id, None) if whole is None else (whole, item_id)

    def _publish(self, event: WorkEvent) -> None:
        """Tell an event of an item, unless it is an epoch that is known."""
        if isinstance(event, EpochReached):
            entry = self._items[event.item_id]
            if event.epoch <= entry.last_epoch:
                return
            entry.epochs.append((event.epoch, event.mean))
        self._news.tell(event)
        self._news.notify(f"item:{event.item_id}")

    def _end_part(self, whole: str, done: Done) -> None:
        joined = self._items[whole].joined
        assert joined is not None, "a part has a whole"
        self._news.tell(PartDone(item_id=whole, part=done.item_id, state=done.state))
        for told in joined.end(done.item_id, done):
            if isinstance(told, Done):
                self.end(told)
            else:
                self._publish(told)

    def _lose(self, item_id: str, entry: PoolItem) -> None:
        reason = death_in_words(entry.error) or "for no known reason"
        text = f"{entry.deaths} workers died while they worked on it, the last: {reason}"
        self.end(Done(item_id=item_id, state="lost", error=text))

    def _settle_needs(self) -> None:
        """End queued items that need something which did not complete."""
        for item_id in list(self._queue):
            entry = self._items.get(item_id)
            if entry is None or entry.end is not None:
                continue
            for need in entry.needs:
                end = self._end_of(need)
                if end is not None and end.state != "complete":
                    error = end.error or f"what it needs was {end.state}: {need}"
                    self.end(Done(item_id=item_id, state=end.state, error=error))
                    break

    def _state(self, item_id: str) -> EndState | None:
        end = self._end_of(item_id)
        return end.state if end else None

    def _end_of(self, item_id: str) -> _End | None:
        return self._items[item_id].end if item_id in self._items else self._ended[item_id]


def _out_of_memory(error: str) -> str:
    return (
        f"its node ran out of memory {MEMORY_DEATHS} times while it was in work: {death_in_words(error)}. "
        "Fix: fewer slots on a node, or a lower compute.max_memory_gb; then --retry-failed"
    )
