"""The driver's side of the pool actor: calls on it, and a thread that reads its events."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

from orchestrator.slots.silence import Silences
from orchestrator.work.events import Event
from orchestrator.work.item import WorkItem

POLL_S = 1.0
"""Seconds that the reader waits for events."""

ANSWER_S = 60.0
"""Seconds after which a pool that does not answer counts as gone."""

STOP_S = 3.0
"""Seconds for the pool to hear that everything stops."""

SLICE_S = 1.0
"""Seconds of one wait for an answer. Whole waits are counted, not time by a clock: that in which the driver
itself was stopped (SIGSTOP, a suspended machine) is no silence of the pool."""

SILENCE_S = 20.0
"""Seconds without an answer after which the user is told."""

logger = logging.getLogger(__name__)


class PoolClient:
    """Calls on the pool, answered before they return, and its events in order.

    Args:
        actor: the pool actor.
        take: called with the events of a batch, on the reader's thread. Also called with none, about once a
            second, while nothing happens, and with a ``Silence`` when the pool does not answer
            and when it does again. What it raises ends the reading.
        wait: the answer behind a reference, within so many seconds; TimeoutError if it is not there by then.

    Attributes:
        fault: why no events can be read any more, if so.
    """

    def __init__(
        self,
        actor: Any,
        take: Callable[[list[Event]], None],
        wait: Callable[[Any, float], Any] | None = None,
    ) -> None:
        self.actor = actor
        self.fault: BaseException | None = None
        self._take, self._wait = take, wait or _wait
        self._silences = Silences(ANSWER_S, SILENCE_S)
        self._cursor = 0
        self._closing = threading.Event()
        self._reader = threading.Thread(target=self._read, name="pool-events", daemon=True)
        self._reader.start()

    def submit(self, item: WorkItem, needs: Sequence[str] = (), parts: Sequence[WorkItem] = ()) -> None:
        """Queue an item, or the parts of it, unless one of its id was queued before."""
        self._ask("submit", item.to_dict(), list(needs), False, [part.to_dict() for part in parts])

    def cancel(self, item_id: str) -> None:
        """Stop an item; its ``Done`` follows as an event."""
        self._ask("cancel", item_id)

    def go_on(self, item: WorkItem) -> None:
        """Go on with an item that waits after a stage."""
        self._ask("go_on", item.to_dict())

    def forget(self, item_id: str) -> None:
        """Let the pool drop what it keeps of an ended item."""
        self.actor.forget.remote(item_id)

    def stop(self) -> None:
        """Stop all work and let the workers go. Raises if the pool does not answer in time."""
        self._ask("stop", timeout=STOP_S)

    def close(self) -> None:
        """Read the events that are left, and no more."""
        self._closing.set()
        self._reader.join(2 * POLL_S)

    def _read(self) -> None:
        last = False
        while not last:
            last = self._closing.is_set()
            try:
                batch = self._events(0.0 if last else POLL_S)
            except BaseException as error:
                self.fault = error
                return
            if batch:
                self._cursor = batch[-1][0]
            try:
                self._take([event for _, event in batch])
            except BaseException as error:
                logger.exception("Events of the work queue are no longer read")
                self.fault = error
                return

    def _events(self, timeout: float) -> Sequence[tuple[int, Event]]:
        """The next events. The user learns of a pool that lets one wait for them, and of its answer."""
        waited = 0.0

        def look(seconds: float) -> None:
            nonlocal waited
            waited = seconds
            self._tell_silence(heard=0.0, now=waited)

        batch: Sequence[tuple[int, Event]] = self._ask("events", self._cursor, timeout, waiting=look)
        self._tell_silence(heard=waited, now=waited)
        return batch

    def _tell_silence(self, heard: float, now: float) -> None:
        news = self._silences.look(None, heard, now)
        if news is not None:
            self._take([news])

    def _ask(
        self,
        method: str,
        *arguments: Any,
        timeout: float = ANSWER_S,
        waiting: Callable[[float], None] = lambda seconds: None,
    ) -> Any:
        """The answer to a call; ``waiting`` hears now and then for how many seconds it has been awaited.

        Raises:
            TimeoutError: there is none after ``timeout`` seconds.
        """
        reference = getattr(self.actor, method).remote(*arguments)
        waited = 0.0
        while True:
            some = min(SLICE_S, timeout - waited)
            try:
                return self._wait(reference, some)
            except TimeoutError:
                waited += some
                if waited >= timeout:
                    raise
            waiting(waited)


def _wait(reference: Any, seconds: float) -> Any:
    import ray

    return ray.get(reference, timeout=seconds)
