"""Telling a cell that trains slowly from one that hangs: the worker's own watch over its progress."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable

LOOKS = 20
"""Looks within the limit: a hang is noticed at most this part of it late."""


class Watchdog:
    """Calls ``hung`` once, on a thread of its own, when nothing has beaten for too long.

    A worker asks the pool for wishes from a thread of its own, so a hung training thread looks alive from
    outside. What counts here is beaten by the training thread alone: before every step, and with every event.
    Time in which the whole process was stopped (SIGSTOP, a suspended machine) does not count.

    Args:
        limit: seconds without a beat.
        hung: called with the seconds since the last one.
        clock: seconds, monotonic.
    """

    def __init__(
        self, limit: float, hung: Callable[[float], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit, self._hung, self._clock = limit, hung, clock
        self._last = clock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="watch", daemon=True)
        self._training = threading.get_ident()

    def start(self) -> None:
        self._last, self._training = self._clock(), threading.get_ident()
        self._thread.start()

    def beat(self) -> None:
        self._last = self._clock()

    def stop(self) -> None:
        self._over.set()

    def stack(self) -> str:
        """Where the thread is that called ``start``."""
        frame = sys._current_frames().get(self._training)
        return "".join(traceback.format_stack(frame)) if frame is not None else ""

    def _look(self) -> None:
        step = self._limit / LOOKS
        looked = self._clock()
        while not self._over.wait(step):
            now = self._clock()
            if (stopped := now - looked - step) > step:
                self._last = min(now, self._last + stopped)
            looked = now
            silence = now - self._last
            if silence > self._limit:
                self._hung(silence)
                return
