"""Where the time of an invocation went."""

from __future__ import annotations

import time

from orchestrator.work.events import (
    CellsKnown,
    Done,
    EpochReached,
    Event,
    Leased,
    PartDone,
    ProbesKnown,
    SlotUp,
    StageDone,
)


class Timing:
    """Where an invocation's time went, from the events as they come."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.first_up: float | None = None
        self._first_work: float | None = None
        self._free_since: dict[str, float] = {}
        self._gaps: list[float] = [0.0, 0.0]
        self._slots: dict[str, str] = {}
        self._seconds = {"training": 0.0, "evaluation": 0.0}
        self.confirm = 0.0

    def take(self, event: Event) -> None:
        """Take any event of the pool."""
        now = time.monotonic()
        match event:
            case SlotUp():
                self.first_up = self.first_up or now
            case Leased():
                self._slots[event.held] = event.slot
                freed = self._free_since.pop(event.slot, None)
                if freed is not None and event.item_id.startswith("trial-"):
                    self._gaps[0] += now - freed
                    self._gaps[1] += 1
            case CellsKnown() | ProbesKnown():
                self._first_work = self._first_work or now
            case EpochReached():
                for report in event.reports.values():
                    seconds = report.get("seconds") or {}
                    self._seconds["training"] += seconds.get("train", 0.0)
                    self._seconds["evaluation"] += seconds.get("evaluate", 0.0)
            case Done() | PartDone() | StageDone() if event.held in self._slots:
                self._free_since[self._slots.pop(event.held)] = now

    def report(self) -> dict[str, float]:
        """Seconds: ``total``; ``start_up`` to the first cell; ``per_trial_overhead`` between two trials of a
        slot; ``training`` and ``evaluation`` summed over cells; ``confirm`` for the test images.
        """
        found = {**self._seconds, "total": time.monotonic() - self._began, "confirm": self.confirm}
        if self._first_work is not None:
            found["start_up"] = self._first_work - self._began
        if self._gaps[1]:
            found["per_trial_overhead"] = self._gaps[0] / self._gaps[1]
        return {name: round(value, 3) for name, value in found.items()}
