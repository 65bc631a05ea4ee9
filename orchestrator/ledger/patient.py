"""A storage that waits while the one behind it does not answer: a server that restarts, a disk that is full.

Training takes hours, an outage a minute: a worker that gave up at once would throw its work away for nothing.
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from orchestrator.ledger.storage import Storage, StorageEntry

T = TypeVar("T")

AWAY_S = 300.0
"""Seconds to wait for a storage that fails, before its user gives up."""

FULL_S = 120.0
"""The same where it has no room left: that rarely passes unless somebody makes room."""

FULL = (errno.ENOSPC, errno.EDQUOT)

PAUSES = (0.2, 0.5, 1.0, 2.0)
"""Seconds between attempts; the last goes on."""

logger = logging.getLogger(__name__)


class StorageAway(OSError):
    """The storage did not come back in time. What was to be written is not lost with the cell: it trains on
    from its last saved epoch when the study goes on."""


class PatientStorage(Storage):
    """Tries again until it succeeds or the patience is over.

    Args:
        behind: the storage.
        waits: called with the reason, in words, when a wait begins.
        away, full: seconds of patience.
        clock, sleep: replaced in tests.

    Raises:
        StorageAway: by every operation, when the patience is over.
    """

    def __init__(
        self,
        behind: Storage,
        waits: Callable[[str], None] = lambda reason: None,
        *,
        away: float = AWAY_S,
        full: float = FULL_S,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._behind, self.waits = behind, waits
        self._away, self._full = away, full
        self._clock, self._sleep = clock, sleep
        self.root, self.exclusive = behind.root, behind.exclusive

    def read(self, path: str) -> bytes | None:
        return self._try(lambda: self._behind.read(path))

    def write(self, path: str, data: bytes) -> None:
        self._try(lambda: self._behind.write(path, data))

    def create(self, path: str, data: bytes) -> bool:
        return self._try(lambda: self._behind.create(path, data))

    def delete(self, path: str) -> None:
        self._try(lambda: self._behind.delete(path))

    def move(self, path: str, target: str) -> None:
        self._try(lambda: self._behind.move(path, target))

    def names(self, folder: str) -> list[str]:
        return self._try(lambda: self._behind.names(folder))

    def files(self, folder: str) -> Iterator[str]:
        return iter(self._try(lambda: list(self._behind.files(folder))))

    def everything(self) -> Iterator[StorageEntry]:
        return iter(self._try(lambda: list(self._behind.everything())))

    def _try(self, operation: Callable[[], T]) -> T:
        began: float | None = None
        attempt = 0
        while True:
            try:
                return operation()
            except OSError as error:
                now = self._clock()
                patience = self._full if error.errno in FULL else self._away
                reason = f"{self.locate('')} is unreachable: {error.strerror or error}"
                if began is None:
                    began = now
                    logger.warning("%s; trying for %.0f s", reason, patience)
                    self.waits(f"{reason}; trying again for {patience:.0f} s")
                if now - began >= patience:
                    raise StorageAway(error.errno, f"{reason}, for {patience:.0f} s now") from error
            self._sleep(PAUSES[min(attempt, len(PAUSES) - 1)])
            attempt += 1
