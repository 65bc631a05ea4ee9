"""Everything that is shown of a run as JSON lines, for other programs: ``--events FILE``."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from mmap_model.errors import InputError
from orchestrator.redaction import redact
from orchestrator.terminal.stamped import utc_now
from orchestrator.work.shown import NoteShown, Progress, Shown
from orchestrator.work.shown_json import to_plain

STDOUT = "-"


class EventRecorder:
    """Appends ``{"at": …, "event": …, …}`` for every event, a line each; ``docs/logs.md`` has them all.

    A file that takes no more (a full disk, a closed pipe) is told of once, and the run goes on.

    Args:
        place: a file, which is appended to, or ``-`` for standard output.
        now: the time that stands in a line.

    Raises:
        InputError: the file cannot be written.
    """

    def __init__(self, place: str, now: Callable[[], datetime] = utc_now) -> None:
        self._place, self._now = place, now
        self._lock = threading.Lock()
        self._stream: TextIO | None = None
        self._open: AbstractContextManager[TextIO]
        try:
            self._open = nullcontext(sys.stdout) if place == STDOUT else _appended(place)
        except OSError as error:
            raise InputError(
                f"cannot write to {place}: {error.strerror}",
                where="--events",
                fix="give a file in a folder that exists and may be written, or - for standard output",
            ) from error

    def beside(self, show: Progress) -> Progress:
        """A progress that writes each event down and then shows it."""

        def both(event: Shown) -> None:
            error = self.apply(event)
            show(event)
            if error is not None:
                show(NoteShown(text=f"{self._place} takes no more events ({error}); the run goes on"))

        return both

    def apply(self, event: Shown) -> OSError | None:
        """Write an event; the error, the first time that it cannot be written."""
        at = self._now().isoformat(timespec="milliseconds")
        line = json.dumps({"at": at, **_without_secrets(to_plain(event))})
        with self._lock:
            if self._stream is None:
                return None
            try:
                self._stream.write(f"{line}\n")
                self._stream.flush()
            except OSError as error:
                self._stream = None
                return error
        return None

    def __enter__(self) -> Self:
        self._stream = self._open.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._stream = None
        with contextlib.suppress(OSError):  # what it did not take was told of
            self._open.__exit__(kind, error, trace)


def _appended(place: str) -> TextIO:
    return Path(place).open("a", encoding="utf-8")


def _without_secrets(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {name: _without_secrets(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_without_secrets(inner) for inner in value]
    return value
