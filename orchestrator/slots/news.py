"""What the pool has to tell its driver, and who waits for what to change. Plain data."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from orchestrator.work.events import Event


class News:
    """Numbered events, kept until they are read.

    Args:
        notify: called with the topic that changed: ``queue``, ``driver``, ``item:<id>`` or ``worker:<id>``.
    """

    def __init__(self, notify: Callable[[str], None] = lambda topic: None) -> None:
        self.notify = notify
        self._events: deque[tuple[int, Event]] = deque()
        self._sequence = 0

    def tell(self, event: Event) -> None:
        """Keep an event for the driver."""
        self._sequence += 1
        self._events.append((self._sequence, event))
        self.notify("driver")

    def after(self, number: int) -> list[tuple[int, Event]]:
        """Events later than ``number``, which the reader thereby has: earlier ones are dropped."""
        while self._events and self._events[0][0] <= number:
            self._events.popleft()
        return list(self._events)
