"""Writes that nobody waits for: the latest content of every path, in the background, again after an error."""

from __future__ import annotations

import logging
import threading

from orchestrator.ledger.storage import Storage

WRITERS = 4
"""Writes under way at the same time; one path is only ever written by one of them."""

AGAIN_S = 1.0
"""Seconds to wait after a write that failed: a full disk or a storage that is away for a while."""

logger = logging.getLogger(__name__)


class WriteBehind:
    """Takes whole contents of small files and writes them to a storage.

    What is put for a path before an earlier content of it was written replaces that content, so what waits
    is bounded by the number of paths in use, however slow the storage is.

    Args:
        storage: where to.
        again_s: seconds to wait after a write that failed.
    """

    def __init__(self, storage: Storage, *, again_s: float = AGAIN_S) -> None:
        self._storage, self._again_s = storage, again_s
        self._changed = threading.Condition()
        self._waiting: dict[str, bytes] = {}
        self._written_now: set[str] = set()
        self._closing = False
        self._fails = False
        self._threads = [
            threading.Thread(target=self._write, name=f"records-{number}", daemon=True)
            for number in range(WRITERS)
        ]
        for thread in self._threads:
            thread.start()

    def put(self, path: str, data: bytes) -> None:
        """Write ``data`` to ``path`` soon."""
        with self._changed:
            self._waiting[path] = data
            self._changed.notify_all()  # one alone might be somebody who drains

    def drain(self, timeout: float) -> bool:
        """Wait until everything put so far is written; False if ``timeout`` seconds did not suffice."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._written_now, timeout)

    def close(self, timeout: float) -> bool:
        """Write what is left, for at most ``timeout`` seconds, and end; False if something could not be."""
        drained = self.drain(timeout)
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if drained:
            for thread in self._threads:
                thread.join()
        return drained

    def _write(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._next() is not None)
                if self._closing:
                    return
                path = self._next()
                assert path is not None, "the condition just waited for"
                data = self._waiting.pop(path)
                self._written_now.add(path)
            error = self._try(path, data)
            with self._changed:
                self._written_now.discard(path)
                if error is not None:
                    self._waiting.setdefault(path, data)  # unless a later content was put meanwhile
                    if not self._fails:
                        logger.error("%s could not be written yet: %s", self._storage.locate(path), error)
                    self._fails = True
                    self._changed.wait_for(lambda: self._closing, self._again_s)
                else:
                    self._fails = False
                self._changed.notify_all()

    def _next(self) -> str | None:
        return next((path for path in self._waiting if path not in self._written_now), None)

    def _try(self, path: str, data: bytes) -> Exception | None:
        try:
            self._storage.write(path, data)
        except Exception as error:  # of an object store's client it may be any
            return error
        return None
