"""The MLflow client in a process of its own, so that what it computes takes no turns of the driver's threads.

A trial of three cells costs its client about a tenth of a second of processor time. In a thread of the driver
that would hold up the loop that hands out work, and the more slots there are the longer.

    driver → process: {"uri", "experiment", "tags", "lock"}, then lists of operations, one JSON line each
    process → driver: {"refused": [[index, reason], …], "error": reason or null}, one line for each list
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from orchestrator.tracking.outbox import Operation

COMMAND = (sys.executable, "-m", "orchestrator.tracking.process")

NICE = 5
"""Where cores are scarce those who train come first; what MLflow is told waits on disk meanwhile."""


class WriterError(Exception):
    """What kept the process from writing; the text begins with the kind of error."""

    def __str__(self) -> str:
        return str(self.args[0])


class ProcessWriter:
    """Writes to one experiment through a process, started with the first call and again after its death.

    Args:
        uri: tracking URI.
        experiment: its name.
        tags: of the experiment.
        command: starts the process; replaced in tests.
        lock: held by the process while it lives. That of a driver that was killed ends what it was told
            last; two that write the same runs at a time would make some of them twice.
    """

    def __init__(
        self,
        uri: str,
        experiment: str,
        tags: dict[str, str],
        command: Sequence[str] = COMMAND,
        lock: Path | None = None,
    ) -> None:
        about = {"uri": uri, "experiment": experiment, "tags": tags}
        self._about = {**about, "lock": None if lock is None else str(lock)}
        self._command = list(command)
        self._process: subprocess.Popen[bytes] | None = None

    def write(self, operations: Sequence[Operation]) -> Iterator[tuple[Operation, str]]:
        """Apply operations; yields those refused for good, with the reason.

        Raises:
            WriterError: the server does not answer, or the process ended; all of them may be told again.
        """
        answer = self._ask(list(operations))
        for index, reason in answer["refused"]:
            yield operations[index], reason
        if answer["error"] is not None:
            raise WriterError(answer["error"])

    def close(self) -> None:
        """Let the process end."""
        if self._process is not None:
            with contextlib.suppress(OSError):
                _pipe(self._process.stdin).close()
            self._process = None

    def _ask(self, operations: list[Operation]) -> dict[str, Any]:
        process = self._process or self._start()
        self._process = process
        try:
            _send(_pipe(process.stdin), operations)
            line = _pipe(process.stdout).readline()
        except OSError:
            line = b""
        if not line:
            process.kill()
            self._process = None
            raise WriterError(f"the process of the MLflow client ended with code {process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the driver, which has more to tell then
        )
        with contextlib.suppress(OSError):  # found out when the answer is read
            _send(_pipe(process.stdin), self._about)
        return process


def main() -> None:
    """Serve one driver until it closes the pipe, also by dying."""
    os.nice(NICE)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever else is printed is no answer
    about = json.loads(sys.stdin.buffer.readline())
    if about["lock"] is not None:
        lock = os.open(about["lock"], os.O_CREAT | os.O_WRONLY, 0o644)
        fcntl.flock(lock, fcntl.LOCK_EX)  # given back by the end of this process
    writer = None
    for line in sys.stdin.buffer:
        operations = json.loads(line)
        refused: list[tuple[int, str]] = []
        error = None
        try:
            if writer is None:
                from orchestrator.tracking.writer import MlflowWriter

                writer = MlflowWriter(about["uri"], about["experiment"], about["tags"])
            numbers = {id(operation): index for index, operation in enumerate(operations)}
            for operation, reason in writer.write(operations):
                refused.append((numbers[id(operation)], reason))
        except Exception as failure:
            error = f"{type(failure).__name__}: {failure}"
        _send(answers, {"refused": refused, "error": error})


def _send(stream: IO[bytes], document: Any) -> None:
    stream.write(json.dumps(document).encode() + b"\n")
    stream.flush()


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None, "it was opened as a pipe"
    return stream


if __name__ == "__main__":
    main()
