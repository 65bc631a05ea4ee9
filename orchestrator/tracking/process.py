"""A backend in a process of its own, so that what its client computes takes no turns of the driver's threads.

A trial of three cells costs that of MLflow about a tenth of a second of processor time. In a thread of the
driver that would hold up the loop that hands out work, and the more slots there are the longer.

    driver → process: ``Connection``, then {"call": open | write | finish, "arguments": …}, one JSON line each
    process → driver: {"answer": …, "error": reason or null}, one line for each call
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from orchestrator.tracking.backend import Backend, Connection, Delivery
from orchestrator.tracking.backends import find_backend
from orchestrator.tracking.operations import Operation
from orchestrator.tracking.outbox import is_superseded

COMMAND = (sys.executable, "-m", "orchestrator.tracking.process")

NICE = 5
"""Where cores are scarce those who train come first; what is to be told waits on disk meanwhile."""

LOCK_S = 20.0
"""Seconds to wait for an earlier driver's process to end. One that is stopped (SIGSTOP) keeps the lock; when
it goes on it sees that it was superseded."""

LOOK_S = 0.5
"""Seconds between looks at whether a later driver has taken over."""


class WriterError(Exception):
    """What kept the process from writing; the text begins with the kind of error."""

    def __str__(self) -> str:
        return str(self.args[0])


class BackendProcess(Backend):
    """A backend behind a process, started with the first call and again after its death.

    Every call raises WriterError where the backend does not answer or the process ended.

    Args:
        to: what the backend writes to.
        command: starts the process; replaced in tests.
    """

    def __init__(self, to: Connection, command: Sequence[str] = COMMAND) -> None:
        super().__init__(to)
        self._command = list(command)
        self._process: subprocess.Popen[bytes] | None = None

    def open(self) -> str | None:
        heard = self._ask("open")
        return None if heard is None else str(heard)

    def write(self, operations: Sequence[Operation], *, late: bool = False) -> Delivery:
        answer = self._ask("write", operations=list(operations), late=late)
        return Delivery(
            refused=[(operation, reason) for operation, reason in answer["refused"]],
            undecided=[(operation, reason) for operation, reason in answer["undecided"]],
            lost=answer["lost"],
        )

    def finish(self, mark: str) -> None:
        self._ask("finish", mark=mark)

    def close(self) -> None:
        """Let the process end."""
        if self._process is not None:
            with contextlib.suppress(OSError):
                _pipe(self._process.stdin).close()
            self._process = None

    def _ask(self, call: str, **arguments: Any) -> Any:
        process = self._process or self._start()
        self._process = process
        try:
            _send(_pipe(process.stdin), {"call": call, "arguments": arguments})
            line = _pipe(process.stdout).readline()
        except OSError:
            line = b""
        if not line:
            process.kill()
            self._process = None
            raise WriterError(f"the process of the tracking client ended with code {process.wait()}")
        answer = json.loads(line)
        if answer["error"] is not None:
            raise WriterError(answer["error"])
        return answer["answer"]

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the driver, which has more to tell then
        )
        with contextlib.suppress(OSError):  # found out when the answer is read
            _send(_pipe(process.stdin), asdict(self.to))
        return process


def main() -> None:
    """Serve one driver until it closes the pipe, also by dying."""
    os.nice(NICE)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever else is printed is no answer
    to = Connection(**json.loads(sys.stdin.buffer.readline()))
    whole = threading.Lock()
    if to.outbox is not None:
        outbox = Path(to.outbox)
        threading.Thread(target=_end_when_superseded, args=(outbox, whole), daemon=True).start()
        _lock(outbox.parent / "writer.lock")
    backend: Backend | None = None
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        answer, error = None, None
        try:
            if backend is None:
                with whole:
                    backend = find_backend(to.uri, to.backend).connect(to)
            answer = getattr(backend, asked["call"])(**asked["arguments"])
        except Exception as failure:
            error = f"{type(failure).__name__}: {failure}"
        _send(answers, {"answer": vars(answer) if isinstance(answer, Delivery) else answer, "error": error})


def _lock(path: Path) -> None:
    """Take the lock, given back by the end of this process; go on without it if it is not to be had."""
    try:
        lock = os.open(path, os.O_CREAT | os.O_WRONLY, 0o644)
    except OSError:
        return
    until = time.monotonic() + LOCK_S
    while time.monotonic() < until:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(LOOK_S / 5)
        else:
            return


def _end_when_superseded(outbox: Path, whole: threading.Lock) -> None:
    """End the process, whatever it waits for, but not while it connects.

    The first client of a new database makes its tables, and of an older one it changes them, step by step.
    MLflow cannot use one that was left between two steps.
    """
    while not is_superseded(outbox):
        time.sleep(LOOK_S)
    with whole:
        os._exit(0)


def _send(stream: IO[bytes], document: Any) -> None:
    stream.write(json.dumps(document).encode() + b"\n")
    stream.flush()


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None, "it was opened as a pipe"
    return stream


if __name__ == "__main__":
    main()
