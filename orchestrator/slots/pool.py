"""Who works on what: a queue of work items, leases on them, and what the workers tell. No Ray in it.

Three parties talk to the pool: the driver submits and cancels items and reads all events; a thin Tune trial
follows the epochs of its item; a slot's worker takes a lease, reports, and hears what to stop. The pool runs
as an actor (``pool_actor``); here it is a plain object with a clock.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from orchestrator.slots.joined import Joined
from orchestrator.slots.silence import Silences
from orchestrator.work.failures import death_in_words, was_killed_for_memory
from orchestrator.work.item import Event

EndState = Literal["complete", "cancelled", "failed", "lost"]

PATIENCE = 60.0
"""Seconds of silence after which a worker counts as dead. Deaths are mostly noticed by Train, at once."""

LOOK_S = 10.0
"""Seconds between two looks for silent workers while driver and pool run: a driver asks every second."""

DEATHS = 3
"""Deaths of workers on one item, and of one slot without a finished cell, that end the item or the slot."""

MEMORY_DEATHS = 2
"""Workers that Ray killed for their node's memory while they worked on an item: then the item has failed. One
may have been the nearest to hand while another program took the memory."""

GRACE = 90.0
"""Seconds in which Ray notices that a node is gone. Its health check asks every 3 s and gives up at the fifth
failure: 15 s where the connection is refused, 65 s where nothing answers at all."""


@dataclass
class _Item:
    item: dict[str, Any]
    needs: tuple[str, ...]
    worker: str | None = None
    lease: int = 0
    deaths: int = 0
    memory_deaths: int = 0
    error: str = ""
    whole: str | None = None
    joined: Joined | None = None
    epochs: list[tuple[int, float]] = field(default_factory=list)
    end: dict[str, Any] | None = None
    cancel: bool = False
    cancelled_keys: frozenset[str] = frozenset()

    @property
    def last_epoch(self) -> int:
        return self.epochs[-1][0] if self.epochs else 0


@dataclass
class _Slot:
    worker: str | None = None
    seen: float = 0.0
    item: str | None = None
    deaths: int = 0
    proven: bool = False
    left: bool = False
    error: str = ""
    stopped: bool = False
    draining: bool = False


@dataclass(frozen=True)
class _Doubt:
    """A death that does not count yet: the node may have died, and then neither slot nor item is to blame."""

    slot: str
    item: str | None
    until: float


class Pool:
    """Items, leases, slots and events of one study.

    Args:
        clock: seconds, monotonic.
        patience: silence after which a worker is taken for dead.
        deaths: how many deaths an item, or a slot that finished no cell in between, survives.
        notify: called with the topic that changed: ``queue``, ``driver``, ``item:<id>`` or ``worker:<id>``.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        patience: float = PATIENCE,
        deaths: int = DEATHS,
        notify: Callable[[str], None] = lambda topic: None,
    ) -> None:
        self._clock = clock
        self._patience, self._looked = patience, clock()
        self._deaths = deaths
        self._notify = notify
        self._items: dict[str, _Item] = {}
        self._ended: dict[str, dict[str, Any]] = {}
        self._queue: deque[str] = deque()
        self._slots: dict[str, _Slot] = {}
        self._events: deque[tuple[int, Event]] = deque()
        self._sequence = 0
        self._leases = 0
        self._doubts: list[_Doubt] = []
        self._silences = Silences()
        self._stopping = False

    # The driver

    def submit(
        self,
        item: dict[str, Any],
        needs: Sequence[str] = (),
        *,
        first: bool = False,
        parts: Sequence[dict[str, Any]] = (),
    ) -> bool:
        """Queue an item; ``needs`` are ids of submitted items that must complete before it starts.

        With ``parts``, items of the same cells, those are queued in its place. Events, followers and ends
        stay those of the whole; what slots do is told with the id of the ``part`` too.

        Returns:
            False, changing nothing, if an item of that id is known: two trials may ask for the same probe.
        """
        item_id = item["item_id"]
        if item_id in self._items or item_id in self._ended:
            return False
        unknown = [n for n in needs if n not in self._items and n not in self._ended]
        assert not unknown, f"{item_id} needs {unknown[0]}, which nobody submitted"
        ids = [part["item_id"] for part in parts]
        self._items[item_id] = _Item(item, tuple(needs), joined=Joined(item_id, ids) if ids else None)
        for part in parts:
            self._items[part["item_id"]] = _Item(part, tuple(needs), whole=item_id)
        if first:
            self._queue.extendleft(reversed(ids or [item_id]))
        else:
            self._queue.extend(ids or [item_id])
        self._settle_needs()
        self._notify("queue")
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
            self._end(item_id, "cancelled")
        else:
            entry.cancel = True
        if entry.worker is not None:
            self._notify(f"worker:{entry.worker}")

    def forget(self, item_id: str) -> None:
        """Drop what is kept for followers of an ended item; it still satisfies those that need it."""
        entry = self._items.get(item_id)
        if entry is not None and entry.end is not None:
            self._ended[item_id] = {"state": entry.end["state"], "error": entry.end.get("error")}
            for name in (item_id, *(entry.joined.parts if entry.joined else ())):
                del self._items[name]

    def stop(self) -> None:
        """Stop all work and let every worker go. Nothing counts as cancelled: items are simply not done."""
        self._stopping = True
        for slot in self._slots.values():
            if slot.worker is not None:
                self._notify(f"worker:{slot.worker}")
        for item_id in self._items:
            self._notify(f"item:{item_id}")
        self._notify("queue")
        self._notify("driver")

    def events(self, after: int) -> list[tuple[int, Event]]:
        """Numbered events later than ``after``, which the reader thereby has: earlier ones are dropped."""
        while self._events and self._events[0][0] <= after:
            self._events.popleft()
        return list(self._events)

    def follow(self, item_id: str, after: int) -> dict[str, Any]:
        """What a trial wants to know of its item.

        Args:
            item_id: the item.
            after: last epoch known.

        Returns:
            ``{epochs: [(epoch, mean), …], end: {state, error} or None}``, in order. While the pool stops, an
            unfinished item reads as ended ``stopped``.
        """
        entry = self._items.get(item_id)
        if entry is None:
            return {"epochs": [], "end": self._ended.get(item_id, {"state": "lost", "error": "unknown item"})}
        end = entry.end or ({"state": "stopped", "error": None} if self._stopping else None)
        return {"epochs": [e for e in entry.epochs if e[0] > after], "end": end}

    # Workers

    def hello(self, slot: str, worker: str) -> bool:
        """A worker process of ``slot`` is up; False tells it to end.

        A predecessor that is not known to be dead must be: a slot has one worker. The node lives, so that
        deaths in doubt were the slot's own.
        """
        record = self._slots.setdefault(slot, _Slot())
        if record.worker not in (None, worker):
            self.died(slot, "its worker was replaced")
        self._settle_doubts(lambda doubt: doubt.slot == slot)
        if record.stopped or record.draining or self._stopping:
            return False
        record.worker, record.seen = worker, self._clock()
        self._tell({"kind": "slot", "slot": slot, "state": "up"})
        self._tell_silence(slot, record)
        return True

    def acquire(self, slot: str, worker: str) -> dict[str, Any] | None:
        """The next item for a worker: ``{lease, item}``; ``{stop: True}``; None if there is nothing yet.

        ``{again: True}`` for one that was taken for dead and has no successor: it may say hello again.
        """
        self.expire()
        record = self._slots.get(slot)
        if self._stopping or record is None or record.stopped or record.draining:
            return {"stop": True}
        if record.worker != worker:
            return {"stop": True} if record.worker is not None else {"again": True}
        record.seen = self._clock()
        assert record.item is None, f"{slot} asks for work while it holds {record.item}"
        for item_id in self._queue:
            entry = self._items[item_id]
            doubtful = sum(doubt.item == item_id for doubt in self._doubts)
            if entry.deaths + doubtful >= self._deaths:
                continue  # it may kill whoever takes it: known once the doubts are settled
            if all(self._state(n) == "complete" for n in entry.needs):
                self._queue.remove(item_id)
                self._leases += 1
                entry.worker, entry.lease, record.item = worker, self._leases, item_id
                self._tell({"kind": "leased", **self._names(item_id), "slot": slot, "deaths": entry.deaths})
                return {"lease": self._leases, "item": entry.item}
        return None

    def report(self, slot: str, worker: str, lease: int, events: Sequence[Event]) -> bool:
        """Take events of a lease; False if the lease is no longer this worker's: they are ignored."""
        record = self._slots.get(slot)
        if record is None or record.worker != worker or record.item is None:
            return False
        record.seen = self._clock()
        item_id = record.item
        entry = self._items[item_id]
        if entry.lease != lease:
            return False
        for event in events:
            self._take(item_id, entry, record, event)
        return True

    def wish(self, slot: str, worker: str, lease: int) -> dict[str, Any]:
        """What is wanted of a lease: ``{cancel, cancelled_keys, valid}``. Also a sign of life."""
        record = self._slots.get(slot)
        entry = self._items.get(record.item) if record is not None and record.item else None
        if record is None or record.worker != worker or entry is None or entry.lease != lease:
            return {"cancel": True, "cancelled_keys": [], "valid": False}
        record.seen = self._clock()
        return {
            "cancel": entry.cancel or record.draining or self._stopping,
            "cancelled_keys": sorted(entry.cancelled_keys),
            "valid": True,
        }

    def bye(self, slot: str, worker: str, error: str | None = None, *, final: bool = False) -> None:
        """A worker ends. With ``error`` it fails; ``final`` says that another attempt would fail as well.

        An item that it holds then was refused for what the slot has, and is not to blame.
        """
        record = self._slots.get(slot)
        if record is None or record.worker != worker:
            return
        if error is not None:
            record.error = error
        if final:
            self._release(record, counted=False)
            self._stop_slot(slot, record)
        elif record.draining:
            self._dismiss(slot, record)
        elif error is None:
            self._release(record)
            record.worker = None
            self._tell({"kind": "slot", "slot": slot, "state": "down"})

    def leave(self, slot: str, worker: str) -> None:
        """A worker gave its item up, reported that, and ends its process: the death that follows is none."""
        record = self._slots.get(slot)
        if record is not None and record.worker == worker:
            record.left = True

    def placed(self, slot: str, placement_group: str) -> None:
        """Tell the driver which placement group holds the slot's worker."""
        self._tell({"kind": "slot", "slot": slot, "state": "placed", "placement_group": placement_group})

    def measured(self, slot: str, worker: str, memory: dict[str, int]) -> None:
        """Tell the driver what a worker takes of its GPU's memory, see ``Bench.memory``."""
        record = self._slots.get(slot)
        if record is not None and record.worker == worker:
            self._tell({"kind": "slot", "slot": slot, "state": "measured", **memory})

    def died(self, slot: str, error: str, *, grace: float = 0.0) -> bool:
        """The worker of ``slot`` is dead: its item is queued again. False if the slot has no further one.

        Args:
            slot: whose worker it was.
            error: what is known of the death.
            grace: seconds in which the slot's node may turn out to be gone (``lost``). Nobody waits for
                that, but the death counts against slot and item only after them, or once another worker
                of the slot comes up.
        """
        record = self._slots.setdefault(slot, _Slot())
        if record.stopped:
            return False
        if record.draining:
            self._dismiss(slot, record)
            return False
        # A worker that left had given its item up; one that Ray killed for memory died of its item.
        for_memory = record.item is not None and was_killed_for_memory(error)
        explained, record.left = record.left or for_memory, False
        doubtful = grace > 0 and not explained
        item_id = self._release(record, error, counted=not (doubtful or explained), for_memory=for_memory)
        record.worker = None
        if not explained:
            record.error = record.error or error
        if doubtful:
            self._doubts.append(_Doubt(slot, item_id, self._clock() + grace))
        elif not explained and not self._count(slot, record):
            return False
        self._tell({"kind": "slot", "slot": slot, "state": "down", "error": record.error or error})
        return True

    def drain(self, slot: str) -> None:
        """Let a slot go whose node will be taken away: its item is queued again, no death counts."""
        record = self._slots.setdefault(slot, _Slot())
        if record.worker is None:
            self._dismiss(slot, record)
        else:
            record.draining = True
            self._notify(f"worker:{record.worker}")
            self._notify("queue")

    def lost(self, slot: str) -> None:
        """The node of ``slot`` is gone and the slot with it: its item is queued again, no death counts."""
        record = self._slots.get(slot)
        if record is not None:
            self._dismiss(slot, record)

    def expire(self) -> None:
        """Take workers that have been silent for too long for dead, and count deaths no longer in doubt."""
        now = self._clock()
        self._forgive(now - self._looked - LOOK_S, now)
        self._looked = now
        self._settle_doubts(lambda doubt: doubt.until <= now)
        limit = now - self._patience
        for slot, record in list(self._slots.items()):
            if record.worker is None or record.item is None:
                continue
            self._tell_silence(slot, record)
            if record.seen < limit:
                # Silence is how a node looks that is gone without a word.
                self.died(slot, f"its worker was silent for {self._patience:g} s", grace=GRACE)

    # Inside

    def _forgive(self, seconds: float, now: float) -> None:
        """Take silence back that nobody listened to: the pool was stopped (SIGSTOP, a suspended machine)."""
        if seconds <= 0:
            return
        for record in self._slots.values():
            record.seen = min(now, record.seen + seconds)
        self._silences.shift(seconds)

    def _tell_silence(self, slot: str, record: _Slot) -> None:
        news = self._silences.look(slot, record.seen, self._clock())
        if news is not None and not self._stopping:
            self._tell({**news, "slot": slot, "patience": self._patience})

    def _take(self, item_id: str, entry: _Item, record: _Slot, event: Event) -> None:
        kind = event["kind"]
        if kind in ("cell_finished", "probe_finished"):
            record.deaths, record.error, record.proven = 0, "", True
        elif kind == "done":
            self._notify(f"worker:{record.worker}")
            if record.draining and event["state"] == "cancelled" and not entry.cancel and not self._stopping:
                self._release(record, counted=False, seconds=event.get("seconds"))
                return
            record.item, entry.worker = None, None
            if self._stopping and event["state"] == "cancelled":
                self._tell({"kind": "stopped", **self._names(item_id), "seconds": event.get("seconds", {})})
                return
            more = {name: event[name] for name in ("failure", "seconds") if event.get(name)}
            self._end(item_id, event["state"], event.get("error"), **more)
            return
        whole = self._items[entry.whole].joined if entry.whole else None
        for told in [event] if whole is None else whole.take(item_id, event):
            self._publish(told)

    def _publish(self, event: Event) -> None:
        """Tell an event of an item, unless it is an epoch that is known."""
        entry = self._items[event["item_id"]]
        if event["kind"] == "epoch":
            if event["epoch"] <= entry.last_epoch:
                return
            entry.epochs.append((event["epoch"], event["mean"]))
        self._tell(event)
        self._notify(f"item:{event['item_id']}")

    def _names(self, item_id: str) -> dict[str, str]:
        """How an item is told of: a part under the name of its whole."""
        whole = self._items[item_id].whole
        return {"item_id": item_id} if whole is None else {"item_id": whole, "part": item_id}

    def _end(self, item_id: str, state: EndState, error: str | None = None, **more: Any) -> None:
        """End an item; ``more`` of its last event: ``failure``, ``seconds``, ``killed``."""
        entry = self._items[item_id]
        entry.end, entry.worker, entry.lease = {"state": state, "error": error}, None, 0
        if item_id in self._queue:
            self._queue.remove(item_id)
        end = {"state": state, "error": error, "failure": None, "seconds": {}, "killed": False, **more}
        if entry.whole is None:
            self._tell({"kind": "done", "item_id": item_id, **end})
        else:
            self._end_part(item_id, entry.whole, end)
        self._notify(f"item:{item_id}")
        self._notify("queue")
        self._settle_needs()

    def _end_part(self, part: str, whole: str, end: dict[str, Any]) -> None:
        joined = self._items[whole].joined
        assert joined is not None, "a part has a whole"
        self._tell({"kind": "part_done", **self._names(part), "state": end["state"]})
        for told in joined.end(part, {"kind": "done", **end}):
            if told["kind"] == "done":
                self._end(**{name: value for name, value in told.items() if name != "kind"})
            else:
                self._publish(told)

    def _settle_needs(self) -> None:
        """End queued items that need something which did not complete."""
        for item_id in list(self._queue):
            entry = self._items.get(item_id)
            if entry is None or entry.end is not None:
                continue
            for need in entry.needs:
                state = self._state(need)
                if state not in (None, "complete"):
                    self._end(item_id, state, self._error(need) or f"what it needs was {state}: {need}")
                    break

    def _state(self, item_id: str) -> EndState | None:
        end = self._items[item_id].end if item_id in self._items else self._ended[item_id]
        return end["state"] if end else None

    def _error(self, item_id: str) -> str | None:
        end = self._items[item_id].end if item_id in self._items else self._ended[item_id]
        return end["error"] if end else None

    def _release(
        self,
        record: _Slot,
        error: str = "",
        *,
        counted: bool = True,
        for_memory: bool = False,
        seconds: dict[str, float] | None = None,
    ) -> str | None:
        """Queue the item of a worker that is gone again, in front, unless it has killed too many; its id."""
        item_id, record.item = record.item, None
        if item_id is None:
            return None
        entry = self._items[item_id]
        entry.worker, entry.lease, entry.error = None, 0, error
        entry.deaths += counted
        entry.memory_deaths += for_memory
        if entry.cancel:
            self._end(item_id, "cancelled", seconds=seconds or {})
        elif entry.memory_deaths >= MEMORY_DEATHS:
            self._end(item_id, "failed", _out_of_memory(error), failure="memory", killed=True)
        elif entry.deaths >= self._deaths:
            self._lose(item_id, entry, record)
        else:
            self._queue.appendleft(item_id)
            told = {"deaths": entry.deaths, "seconds": seconds or {}}
            self._tell({"kind": "requeued", **self._names(item_id), **told})
            self._notify("queue")
        return item_id

    def _lose(self, item_id: str, entry: _Item, record: _Slot | None) -> None:
        """Give up an item that has killed too many workers. A slot that had proven itself is not to blame."""
        if record is not None and record.proven:
            record.deaths, record.error, record.proven = 0, "", False
        reason = death_in_words(entry.error) or "for no known reason"
        text = f"{entry.deaths} workers died while they worked on it, the last: {reason}"
        self._end(item_id, "lost", text)

    def _count(self, slot: str, record: _Slot) -> bool:
        """Count a death of a slot; False if it was one too many."""
        record.deaths += 1
        if record.deaths >= self._deaths:
            self._stop_slot(slot, record)
        return not record.stopped

    def _settle_doubts(self, over: Callable[[_Doubt], bool]) -> None:
        """Count the deaths whose doubt is ``over``."""
        settled = [doubt for doubt in self._doubts if over(doubt)]
        self._doubts = [doubt for doubt in self._doubts if doubt not in settled]
        for doubt in settled:
            record, entry = self._slots.get(doubt.slot), self._items.get(doubt.item or "")
            if entry is not None and entry.end is None:
                entry.deaths += 1
                if entry.deaths >= self._deaths and entry.worker is None:
                    self._lose(doubt.item or "", entry, record)
            if record is not None and not record.stopped:
                self._count(doubt.slot, record)
        if settled:
            self._notify("queue")

    def _dismiss(self, slot: str, record: _Slot) -> None:
        """Forget a slot that went for no fault of its own."""
        self._doubts = [doubt for doubt in self._doubts if doubt.slot != slot]
        self._release(record, counted=False)
        self._slots.pop(slot, None)
        self._silences.forget(slot)
        self._tell({"kind": "slot", "slot": slot, "state": "gone"})
        self._notify("queue")

    def _stop_slot(self, slot: str, record: _Slot) -> None:
        self._release(record)
        record.worker, record.stopped = None, True
        self._silences.forget(slot)
        self._tell({"kind": "slot", "slot": slot, "state": "stopped", "error": record.error})

    def _tell(self, event: Event) -> None:
        self._sequence += 1
        self._events.append((self._sequence, event))
        self._notify("driver")


def _out_of_memory(error: str) -> str:
    return (
        f"its node ran out of memory {MEMORY_DEATHS} times while it was in work: {death_in_words(error)}. "
        "Fix: fewer slots on a node, or a lower compute.max_memory_gb; then --retry-failed"
    )
