"""Lines with time stamps, and one that says what goes on when nothing else was said for a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from rich.console import Console

from orchestrator.tables.words import NBSP

QUIET_S = 10.0
"""Seconds without a line after which a line says what goes on. The longest silence is to be 15 s: this leaves
five for a machine that is busy."""


def utc_now() -> datetime:
    return datetime.now(UTC)


class StampedLines:
    """Prints ``2026-11-26T19:20:31Z what happened``, one line each, from any thread.

    Within its context a thread of its own prints what ``idle`` says whenever nothing was printed for
    ``QUIET_S``; without it, whoever calls ``look`` does.

    Args:
        console: where to; no escape codes, nothing redrawn.
        idle: what goes on, as a line; called while nothing happens.
        clock: seconds, monotonic.
        now: the time that stands in a line.
    """

    def __init__(
        self,
        console: Console,
        idle: Callable[[], str],
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._console, self._idle, self._clock, self._now = console, idle, clock, now
        self._lock = threading.Lock()
        self._last = clock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep_saying, name="still", daemon=True)

    def say(self, text: str) -> None:
        """Print a line now."""
        with self._lock:
            self._last = self._clock()
            line = f"{self._now().strftime('%Y-%m-%dT%H:%M:%SZ')} {text}".replace(NBSP, " ")
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def look(self) -> float:
        """Say what goes on if nothing was said for too long; the seconds until that may be due again."""
        if (due := self._last + QUIET_S - self._clock()) > 0:
            return due
        self.say(self._idle())  # asks others, who may be about to say something: without the lock
        return QUIET_S

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _keep_saying(self) -> None:
        while not self._over.wait(self.look()):
            pass


def pairs(**values: object) -> str:
    """``trial=3 epoch=2/5``: what is known, by name; a value with spaces is quoted."""
    return " ".join(f"{name}={_quoted(str(value))}" for name, value in values.items() if value is not None)


def _quoted(text: str) -> str:
    plain = text.replace("\n", " ")
    return f'"{plain}"' if not plain or " " in plain or NBSP in plain else plain
