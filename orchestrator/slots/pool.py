"""Who works on what: a queue of work items, leases on them, and what the workers tell. No Ray in it.

Three parties talk to the pool: the driver submits and cancels items and reads all events; a thin Tune trial
follows the epochs of its item; a slot's worker takes a lease, reports, and hears what to stop. The pool runs
as an actor (``pool_actor``); here it is a plain object with a clock. It keeps the two sides together:
``Items`` and the ``Roster`` of slots.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from orchestrator.slots.items import Items, PoolItem
from orchestrator.slots.news import News
from orchestrator.slots.roster import Roster, Slot
from orchestrator.work.doing import Doing
from orchestrator.work.events import (
    CellFinished,
    Done,
    Event,
    Interrupted,
    ProbeFinished,
    SlotDoing,
    SlotMeasured,
    SlotPlaced,
    WorkEvent,
)

PATIENCE = 60.0
"""Seconds of silence after which a worker counts as dead. Deaths are mostly noticed by Train, at once."""

DEATHS = 3
"""Deaths of workers on one item, and of one slot without a finished cell, that end the item or the slot."""


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
        self._news = News(notify)
        self._items = Items(self._news, deaths)
        self._roster = Roster(self._items, self._news, clock=clock, patience=patience, deaths=deaths)

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
        return self._items.submit(item, needs, first=first, parts=parts)

    def cancel(self, item_id: str, keys: Iterable[str] | None = None) -> None:
        """Stop an item, or leave out some of its cells. Unknown or ended items are left alone."""
        self._items.cancel(item_id, keys)

    def go_on(self, item: dict[str, Any]) -> None:
        """Go on with an item that waits after a stage (``StageDone``): the same id, and more seeds."""
        self._items.go_on(item)

    def forget(self, item_id: str) -> None:
        """Drop what is kept for followers of an ended item; it still satisfies those that need it."""
        self._items.forget(item_id)

    def stop(self) -> None:
        """Stop all work and let every worker go. Nothing counts as cancelled: items are simply not done."""
        self._roster.stopping = True
        for worker in self._roster.workers():
            self._news.notify(f"worker:{worker}")
        for item_id in self._items:
            self._news.notify(f"item:{item_id}")
        self._news.notify("queue")
        self._news.notify("driver")

    def events(self, after: int) -> list[tuple[int, Event]]:
        """Numbered events later than ``after``, which the reader thereby has: earlier ones are dropped."""
        return self._news.after(after)

    def follow(self, item_id: str, after: int) -> dict[str, Any]:
        """What a trial wants to know of its item.

        Args:
            item_id: the item.
            after: last epoch known.

        Returns:
            ``{epochs: [(epoch, mean), …], end: {state, error} or None}``, in order. While the pool stops, an
            unfinished item reads as ended ``stopped``.
        """
        news = self._items.follow(item_id, after)
        if news["end"] is None and self._roster.stopping:
            news["end"] = {"state": "stopped", "error": None}
        return news

    # Workers

    def hello(self, slot: str, worker: str) -> bool:
        """A worker process of ``slot`` is up; False tells it to end.

        A predecessor that is not known to be dead must be: a slot has one worker. The node lives, so that
        deaths in doubt were the slot's own.
        """
        return self._roster.hello(slot, worker)

    def acquire(self, slot: str, worker: str) -> dict[str, Any] | None:
        """The next item for a worker: ``{lease, item}``; ``{stop: True}``; None if there is nothing yet.

        ``{again: True}`` for one that was taken for dead and has no successor: it may say hello again.
        """
        self.expire()
        record = self._roster.get(slot)
        if self._roster.stopping or record is None or record.stopped or record.draining:
            return {"stop": True}
        if self._roster.heard(slot, worker) is None:
            return {"stop": True} if record.worker is not None else {"again": True}
        assert record.item is None, f"{slot} asks for work while it holds {record.item}"
        entry = self._items.lease(slot, worker, self._roster.doubtful)
        if entry is None:
            return None
        record.item = entry.item["item_id"]
        return {"lease": entry.lease, "item": entry.item}

    def report(self, slot: str, worker: str, lease: int, events: Sequence[WorkEvent]) -> bool:
        """Take events of a lease; False if the lease is no longer this worker's: they are ignored."""
        held = self._roster.held_by(slot, worker)
        if held is None or held.item is None:
            return False
        self._roster.heard(slot, worker)
        item_id, entry = held.item, self._items[held.item]
        if entry.lease != lease:
            return False
        for event in events:
            self._take(item_id, entry, held, event)
        return True

    def wish(self, slot: str, worker: str, lease: int) -> dict[str, Any]:
        """What is wanted of a lease: ``{cancel, cancelled_keys, valid}``. Also a sign of life."""
        record = self._roster.held_by(slot, worker)
        entry = self._items[record.item] if record is not None and record.item else None
        if record is None or entry is None or entry.lease != lease:
            return {"cancel": True, "cancelled_keys": [], "valid": False}
        self._roster.heard(slot, worker)
        return {
            "cancel": entry.cancel or record.draining or self._roster.stopping,
            "cancelled_keys": sorted(entry.cancelled_keys),
            "valid": True,
        }

    def bye(self, slot: str, worker: str, error: str | None = None, *, final: bool = False) -> None:
        """A worker ends. With ``error`` it fails; ``final`` says that another attempt would fail as well.

        An item that it holds then was refused for what the slot has, and is not to blame.
        """
        self._roster.bye(slot, worker, error, final=final)

    def leave(self, slot: str, worker: str) -> None:
        """A worker gave its item up, reported that, and ends its process: the death that follows is none."""
        record = self._roster.held_by(slot, worker)
        if record is not None:
            record.left = True

    def placed(self, slot: str, placement_group: str) -> None:
        """Tell the driver which placement group holds the slot's worker."""
        self._news.tell(SlotPlaced(slot=slot, placement_group=placement_group))

    def measured(self, slot: str, worker: str, memory: dict[str, int]) -> None:
        """Tell the driver what a worker takes of its GPU's memory, see ``Bench.memory``."""
        if self._roster.held_by(slot, worker) is not None:
            self._news.tell(SlotMeasured(slot=slot, **memory))

    def doing(self, slot: str, worker: str, doing: Doing) -> None:
        """Tell the driver what a worker does. Also a sign of life."""
        if self._roster.heard(slot, worker) is not None:
            self._news.tell_latest(SlotDoing(slot=slot, doing=doing))

    def died(self, slot: str, error: str, *, grace: float = 0.0) -> bool:
        """The worker of ``slot`` is dead: its item is queued again. False if the slot has no further one.

        Args:
            slot: whose worker it was.
            error: what is known of the death.
            grace: seconds in which the slot's node may turn out to be gone (``lost``). Nobody waits for
                that, but the death counts against slot and item only after them, or once another worker
                of the slot comes up.
        """
        return self._roster.died(slot, error, grace=grace)

    def drain(self, slot: str) -> None:
        """Let a slot go whose node will be taken away: its item is queued again, no death counts."""
        self._roster.drain(slot)

    def lost(self, slot: str) -> None:
        """The node of ``slot`` is gone and the slot with it: its item is queued again, no death counts."""
        self._roster.lost(slot)

    def expire(self) -> None:
        """Take workers that have been silent for too long for dead, and count deaths no longer in doubt."""
        self._roster.expire()

    def _take(self, item_id: str, entry: PoolItem, record: Slot, event: WorkEvent) -> None:
        match event:
            case Done():
                self._news.notify(f"worker:{record.worker}")
                self._end(item_id, entry, record, event)
                return
            case CellFinished() | ProbeFinished():
                record.prove()
        self._items.take(item_id, event)

    def _end(self, item_id: str, entry: PoolItem, record: Slot, done: Done) -> None:
        """A worker is through with its item, which is over, or was given back because slot or pool end."""
        cancelled, stopping = done.state == "cancelled", self._roster.stopping
        if cancelled and record.draining and not entry.cancel and not stopping:
            self._roster.release(record, counted=False, seconds=done.seconds)
            return
        record.item, entry.worker = None, None
        if cancelled and stopping:
            told, part = self._items.names(item_id)
            self._news.tell(Interrupted(item_id=told, part=part, seconds=done.seconds))
            return
        self._items.end(replace(done, item_id=item_id))
