"""When each slot was at work on what, as records keep it: reports draw the slots over time."""

from __future__ import annotations

from orchestrator.ledger.documents import now
from orchestrator.work.events import RELEASES, Event, Leased


class Occupied:
    """Follows which slot holds which item."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[str, str]] = {}

    def take(self, event: Event) -> dict[str, str] | None:
        """Take any event of the pool.

        Returns:
            ``{item, slot, start, end}`` where a slot is free of an item again, else None.
        """
        if isinstance(event, Leased):
            self._open[event.held] = (event.slot, now())
        elif isinstance(event, RELEASES) and event.held in self._open:
            slot, start = self._open.pop(event.held)
            return {"item": event.held, "slot": slot, "start": start, "end": now()}
        return None
