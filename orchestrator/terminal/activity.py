"""One piece of work that takes a while, of a command that is no sweep: what it is at, and for how long."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.status import Status

from orchestrator.tables.words import duration
from orchestrator.terminal.display import redraws
from orchestrator.terminal.stamped import StampedLines, pairs, utc_now


class Activity:
    """A spinner on a terminal; elsewhere lines like those of a sweep, none of them 15 s after the last.

    Args:
        console: where to.
        what: the work, as ``Reading the records``.
        look: how far it is, asked while nothing is told; empty: nothing to say.
        clock, now: see ``StampedLines``.
    """

    def __init__(
        self,
        console: Console,
        what: str,
        look: Callable[[], str] = lambda: "",
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._what, self._at, self._look = what, "", look
        self._clock, self._began = clock, clock()
        self._console = console
        self._status = Status(what, console=console) if redraws(console) else None
        self.lines = StampedLines(console, self._still, clock=clock, now=now)

    def at(self, where: str) -> None:
        """What it is at now: shown on a terminal, and elsewhere in the next line that tells what goes on."""
        self._at = where
        if self._status is not None:
            self._status.update(f"{self._what}: {where}" if where else self._what)

    def say(self, text: str) -> None:
        """Print a line that stays."""
        if self._status is not None:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            self.lines.say(text)

    def __enter__(self) -> Self:
        if self._status is not None:
            self._status.start()
        else:
            self.lines.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()
        else:
            self.lines.__exit__(kind, error, trace)

    def _still(self) -> str:
        seconds = self._clock() - self._began
        where = self._look() or self._at
        shown = f"{self._what}, {where}" if where else self._what
        return f"still {pairs(elapsed=round(seconds))}: {shown}, {duration(round(seconds))} so far"
