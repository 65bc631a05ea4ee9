"""What runs inside a resident Ray Train worker: take a lease, do the item, tell the pool, take the next.

The loop knows Ray only through ``PoolConnection``, so it can be tested with a pool in the same process.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import queue
import secrets
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mmap_model.errors import InputError
from orchestrator.redaction import redact
from orchestrator.slots.teller import PoolConnection, Teller
from orchestrator.slots.watch import Watchdog
from orchestrator.work.doing import Doing
from orchestrator.work.events import Emit, WorkEvent, with_error
from orchestrator.work.item import Control, WorkItem

ACQUIRE_S = 10.0
"""Seconds that a worker without work waits for an answer before it asks again: its sign of life."""

NEWS = 1.05
"""Times its last report by which a worker's memory has to grow to be reported again."""

RECORD_S = 30.0
"""Seconds that a worker gets to record that its cells hang. If the storage hangs, they are not to blame."""

LOAD_S = 600.0
"""Seconds that a worker gets at least to load dataset and backbone, where its progress is watched at all: it
cannot tell how far it is."""

HUNG = 75
"""Exit code of a worker that ended itself because its cells, or its start, made no progress."""

logger = logging.getLogger(__name__)


class ItemExecutor(Protocol):
    """What does the work: ``orchestrator.execution.executor.Executor`` or a stand-in."""

    def load(self) -> None: ...
    def memory(self) -> dict[str, int] | None:
        """Bytes of its GPU that this process had at most (``peak``) and that there are (``total``)."""
        ...

    def doing(self) -> Doing | None:
        """What it does at this moment; None while it has nothing to do. Called from other threads."""
        ...

    def run(self, item: WorkItem, emit: Emit, control: Callable[[], Control]) -> None: ...
    def give_up(self, error: str, traceback: str) -> list[WorkEvent]:
        """Called from another thread: the cells in training hang. Record it; the events that say so."""
        ...


@dataclass(frozen=True, kw_only=True)
class SlotSettings:
    """What a worker needs to know.

    Attributes:
        slot: name of the slot.
        executor: ``module:attribute`` of the factory of the executor.
        arguments: keyword arguments of that factory.
        threads: of torch on the CPU.
        cell_timeout_s: seconds without progress after which the cells in training have failed and the worker
            ends itself; None: never. Loading may take as long, and ``LOAD_S`` at least.
    """

    slot: str
    executor: str
    arguments: dict[str, Any]
    threads: int
    cell_timeout_s: float | None = None


def serve(settings: SlotSettings, pool: PoolConnection, quit: Callable[[int], Any] = os._exit) -> None:
    """Work until the pool says stop.

    Args:
        settings: of the worker.
        pool: where work comes from.
        quit: ends the process at once, whatever its threads do; replaced in tests.

    Raises:
        Exception: the executor could not be made, or work broke outside of what an item may do. Train then
            starts the worker again. Input errors are not raised: another attempt would fail alike, so the
            slot ends.
    """
    worker = secrets.token_hex(8)
    if not pool("hello", settings.slot, worker):
        return
    with Teller(pool, settings.slot, worker) as teller:
        _serve(settings, pool, worker, teller, quit)


def _serve(
    settings: SlotSettings, pool: PoolConnection, worker: str, teller: Teller, quit: Callable[[int], Any]
) -> None:
    try:
        with _loading(settings, pool, worker, quit):
            executor = _make(settings, teller)
        peak = 0.0
        while True:
            answer = pool("acquire", settings.slot, worker, ACQUIRE_S)
            if answer is None:
                continue
            if "stop" in answer:
                break
            if "again" in answer:  # it was silent for so long that it counted as dead
                if not pool("hello", settings.slot, worker):
                    break
                continue
            with ItemLease(pool, settings.slot, worker, answer["lease"]) as lease:
                item = WorkItem.from_dict(answer["item"])
                with _watched(lease, executor, settings.cell_timeout_s, quit):
                    executor.run(item, lease.emit, lease.control)
            memory = executor.memory()
            if memory is not None and memory["peak"] > peak:
                peak = NEWS * memory["peak"]
                pool("measured", settings.slot, worker, memory)
    except InputError as error:
        pool("bye", settings.slot, worker, redact(str(error)), True)
    except Exception:
        pool("bye", settings.slot, worker, redact(traceback.format_exc(limit=-8)), False)
        raise
    else:
        pool("bye", settings.slot, worker)


class ItemLease:
    """One item in work: sends its events in order and hears what is wanted of it, both in the background.

    Training is never held up: ``emit`` only queues, ``control`` reads what was last heard. Leaving the
    context waits until every event has arrived.
    """

    def __init__(self, pool: PoolConnection, slot: str, worker: str, number: int) -> None:
        self._pool, self._slot, self._worker, self._number = pool, slot, worker, number
        self._outgoing: queue.SimpleQueue[WorkEvent | None] = queue.SimpleQueue()
        self._control = Control()
        self._over = threading.Event()
        self.watch: Watchdog | None = None
        self._sender = threading.Thread(target=self._send, name="lease-events", daemon=True)
        self._listener = threading.Thread(target=self._listen, name="lease-wishes", daemon=True)

    def __enter__(self) -> ItemLease:
        self._sender.start()
        self._listener.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._outgoing.put(None)
        self._sender.join()

    def emit(self, event: WorkEvent) -> None:
        self._beat()
        self._outgoing.put(with_error(event, redact))

    def control(self) -> Control:
        self._beat()
        return self._control

    def leave(self, events: Sequence[WorkEvent]) -> None:
        """Tell the last events of the item, and that the worker ends itself."""
        for event in events:
            self.emit(event)
        self.__exit__()
        self._pool("leave", self._slot, self._worker)

    def _beat(self) -> None:
        if self.watch is not None:
            self.watch.beat()

    def _send(self) -> None:
        ended = False
        while not ended:
            events = [self._outgoing.get()]
            while not self._outgoing.empty():
                events.append(self._outgoing.get())
            ended = events[-1] is None
            told = [event for event in events if event is not None]
            try:
                if told and not self._pool("report", self._slot, self._worker, self._number, told):
                    self._control = Control(cancel=True)
            except Exception as error:
                logger.warning("The pool is gone, the item is given up: %s", error)
                self._control = Control(cancel=True)

    def _listen(self) -> None:
        known: dict[str, Any] = {"cancel": False, "cancelled_keys": [], "valid": True}
        while not self._over.is_set():
            try:
                known = self._pool("wish", self._slot, self._worker, self._number, known, ACQUIRE_S)
            except Exception:
                known = {"cancel": True, "cancelled_keys": [], "valid": False}
            if not self._over.is_set():
                self._control = Control(
                    cancel=known["cancel"], cancelled_keys=frozenset(known["cancelled_keys"])
                )
            if not known["valid"]:
                return


@contextlib.contextmanager
def _loading(
    settings: SlotSettings, pool: PoolConnection, worker: str, quit: Callable[[int], Any]
) -> Iterator[None]:
    """Watch over the start of a worker. One that does not end counts as a death of the slot."""
    if settings.cell_timeout_s is None:
        yield
        return

    def hung(silence: float) -> None:
        error = f"its data are not loaded after {silence:.0f} s, more than slots.cell_timeout_s allows"
        logger.error("Slot %s: %s. Here it stands:\n%s", settings.slot, error, redact(watch.stack()))
        try:
            pool("bye", settings.slot, worker, error, False)
        finally:
            quit(HUNG)

    watch = Watchdog(max(settings.cell_timeout_s, LOAD_S), hung)
    watch.start()
    try:
        yield
    finally:
        watch.stop()


@contextlib.contextmanager
def _watched(
    lease: ItemLease, executor: ItemExecutor, limit: float | None, quit: Callable[[int], Any]
) -> Iterator[None]:
    """Watch over the progress of a lease. Where it ends the process has to end: no thread can be killed."""
    if limit is None:
        yield
        return

    def hung(silence: float) -> None:
        error = f"no progress for {silence:.0f} s, more than slots.cell_timeout_s allows"
        recorded: list[list[WorkEvent]] = []
        record = threading.Thread(
            target=lambda: recorded.append(executor.give_up(error, watch.stack())), daemon=True
        )
        record.start()
        record.join(RECORD_S)
        try:
            # Without a record the storage hangs as well: the death counts as any other, the item is requeued.
            for events in recorded:
                lease.leave(events)
        finally:
            quit(HUNG)

    watch = lease.watch = Watchdog(limit, hung)
    watch.start()
    try:
        yield
    finally:
        watch.stop()


def _make(settings: SlotSettings, teller: Teller) -> ItemExecutor:
    import torch

    torch.set_num_threads(settings.threads)
    module, _, attribute = settings.executor.partition(":")
    executor: ItemExecutor = getattr(importlib.import_module(module), attribute)(**settings.arguments)
    teller.look = executor.doing
    executor.load()
    return executor
