"""What an invocation spends while it runs: counted from the pool's events, recorded as it goes."""

from __future__ import annotations

import time
from collections.abc import Callable

from orchestrator.ledger import StudyStore
from orchestrator.statistics.spending import Budgets, Spent, spent_before
from orchestrator.work.events import RELEASES, Event, Leased

RECORD_S = 15.0
"""Seconds between two records: a driver that is killed has spent at most this much more than is known."""


class BudgetMeter:
    """Counts what is spent of the budgets.

    Args:
        store: holds what earlier invocations spent, and takes what this one does.
        invocation: its id.
        limits: of the whole study.
        clock: seconds, monotonic.

    Attributes:
        gpus: of a slot; set once that is known.
    """

    def __init__(
        self,
        store: StudyStore,
        invocation: str,
        limits: Budgets,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._invocation, self._limits, self._clock = store, invocation, limits, clock
        self._before = spent_before(store, but=invocation)
        self._began = self._recorded = clock()
        self._busy_since: dict[str, float] = {}
        self._device_seconds = 0.0
        self.gpus = 0.0

    def take(self, event: Event) -> None:
        """Take any event of the pool."""
        if isinstance(event, Leased):
            self._busy_since[event.held] = self._clock()
        elif isinstance(event, RELEASES) and event.held in self._busy_since:
            self._device_seconds += self._clock() - self._busy_since.pop(event.held)

    @property
    def spent(self) -> Spent:
        """By this invocation so far."""
        now = self._clock()
        # Copied: the reader of the pool's events changes it while others ask.
        busy = self._device_seconds + sum(now - since for since in list(self._busy_since.values()))
        return Spent(seconds=now - self._began, device_seconds=busy, gpu_seconds=busy * self.gpus)

    def exhausted(self) -> str | None:
        """The budget that the study has spent, in words; None if there is still some of each."""
        return self._limits.reached(self._before + self.spent)

    def record(self, *, at_once: bool = False) -> None:
        """Keep what was spent, if the last record is old enough. Raises OSError if it cannot be written."""
        now = self._clock()
        if at_once or now - self._recorded >= RECORD_S:
            self._recorded = now
            self._store.save_spending(self._invocation, self.spent.to_dict())
