"""Ctrl-C, SIGTERM, a closed terminal: the first ends the work in order, the second the process at once."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

DEADLINE = 13.0
"""Seconds from the first signal to the end of the process, orderly or not."""

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


class Interrupt:
    """Turns signals into an event while its context is open. Only the main thread can do that; elsewhere the
    event simply never comes from a signal.

    Args:
        deadline: seconds after which a process that is still not done ends the hard way.
        quit: ends the process with an exit code; replaced in tests.

    Attributes:
        requested: set by the first signal, or by ``request``.
        signal: the signal that came first, or None.
        before_quitting: called before the process ends the hard way; its errors are ignored.
    """

    def __init__(self, *, deadline: float = DEADLINE, quit: Callable[[int], Any] = os._exit) -> None:
        self.requested = threading.Event()
        self.signal: signal.Signals | None = None
        self.before_quitting: Callable[[], Any] | None = None
        self._deadline, self._quit = deadline, quit
        self._former: dict[signal.Signals, Any] = {}
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Self:
        self.install()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._former.clear()

    def install(self) -> None:
        """Take the signals over; again after a library (Ray, on starting) has put its own handlers in."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in EXIT_CODES:
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue  # nohup: the work goes on without its terminal
            former = signal.signal(number, self._on_signal)
            self._former.setdefault(number, former)

    @property
    def exit_code(self) -> int | None:
        """By convention 128 + the signal; None if none came."""
        return EXIT_CODES.get(self.signal) if self.signal is not None else None

    def request(self) -> None:
        """Ask for the end as a signal does, without a deadline."""
        self.requested.set()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        code = EXIT_CODES[signal.Signals(number)]
        if self.signal is not None:
            self._leave(code, "Killed immediately; rerun the command to resume from the last saved epoch.")
            return
        self.signal = signal.Signals(number)
        self.requested.set()
        self._timer = threading.Timer(
            self._deadline, self._leave, (code, "Could not stop in time; killed immediately.")
        )
        self._timer.daemon = True
        self._timer.start()

    def _leave(self, code: int, text: str) -> None:
        # Ray's processes are bound to this one and go with it; records are whole or absent at any moment.
        if self.before_quitting is not None:
            with contextlib.suppress(Exception):
                self.before_quitting()
        with contextlib.suppress(OSError):  # the terminal may be gone
            print(f"\n{text}", file=sys.stderr, flush=True)
        self._quit(code)
