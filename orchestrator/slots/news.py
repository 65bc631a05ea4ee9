"""What the pool has to tell its driver, and who waits for what to change. Plain data."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.work.events import Event, SlotDoing


class News:
    """Numbered events, kept until they are read.

    Args:
        notify: called with the topic that changed: ``queue``, ``driver``, ``item:<id>`` or ``worker:<id>``.
    """

    def __init__(self, notify: Callable[[str], None] = lambda topic: None) -> None:
        self.notify = notify
        self._events: dict[int, Event] = {}
        self._latest: dict[str, int] = {}
        self._sequence = 0

    def tell(self, event: Event) -> None:
        """Keep an event for the driver."""
        self._sequence += 1
        self._events[self._sequence] = event
        self.notify("driver")

    def tell_latest(self, event: SlotDoing) -> None:
        """Keep an event in place of the last of its slot. Nobody is woken: it goes with the next ones."""
        self._sequence += 1
        self._events.pop(self._latest.get(event.slot, 0), None)
        self._events[self._sequence] = event
        self._latest[event.slot] = self._sequence

    def after(self, number: int) -> list[tuple[int, Event]]:
        """Events later than ``number``, which the reader thereby has: earlier ones are dropped."""
        for known in list(self._events):  # in order
            if known > number:
                break
            del self._events[known]
        return list(self._events.items())
