"""Writes what a run shows to its records, so that it can be followed from elsewhere."""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import Any

from orchestrator.ledger.documents import now
from orchestrator.ledger.live_record import LiveRecord
from orchestrator.terminal.snapshot import snapshot
from orchestrator.terminal.state import SweepState
from orchestrator.work.shown import Progress, Shown, WorkShown
from orchestrator.work.shown_json import to_plain

WRITE_S = 5.0
"""Seconds between two records: whoever follows is at most that much behind, and what it reads takes."""

KEPT = 200
"""Latest events in a record: whoever looks less often than they come sees the state alone."""

logger = logging.getLogger(__name__)


class ShowingLive:
    """Follows a run and writes a record of how it stands every few seconds, on a thread of its own.

    A storage that takes nothing is left alone until the next record is due: the run never waits.

    Args:
        record: takes what is written.
        fence: of the driver.
        write_s: seconds between two records.
    """

    def __init__(self, record: LiveRecord, fence: int, write_s: float = WRITE_S) -> None:
        self._record, self._fence, self._write_s = record, fence, write_s
        self._state = SweepState()
        self._events: deque[tuple[int, dict[str, Any]]] = deque(maxlen=KEPT)
        self._number, self._written, self._failed = 0, -1, False
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep_writing, name="live-record", daemon=True)
        self._thread.start()

    def beside(self, progress: Progress) -> Progress:
        """A progress that shows what it is given, and remembers it."""

        def both(event: Shown) -> None:
            progress(event)
            with self._lock:
                self._number += 1
                self._state.apply(event)
                self._state.notes.clear()
                if not isinstance(event, WorkShown):
                    self._events.append((self._number, to_plain(event)))

        return both

    def write(self) -> None:
        """Write a record, unless nothing happened since the last."""
        with self._lock:
            if self._number == self._written:
                return
            number = self._number
            document = {"at": now(), "state": snapshot(self._state), "events": list(self._events)}
        try:
            self._record.write(self._fence, document)
            self._written, self._failed = number, False
        except OSError as error:
            if not self._failed:
                logger.info("Followers of this run see no updates: %s", error)
            self._failed = True

    def close(self) -> None:
        """Write the last record."""
        self._over.set()
        self._thread.join(2 * self._write_s)

    def _keep_writing(self) -> None:
        try:
            self._record.forget_before(self._fence)
        except OSError as error:
            logger.info("Live records of earlier runs stay: %s", error)
        while not self._over.wait(self._write_s):
            self.write()
        self.write()
