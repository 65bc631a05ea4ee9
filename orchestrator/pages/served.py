"""A page that another program serves: started, waited for until it answers, ended with all its processes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from types import FrameType, TracebackType
from typing import IO, Self

from mmap_model.errors import ConfigurationError
from orchestrator.redaction import redact

PATIENCE_S = 300.0
"""Seconds in which a page has to answer."""

LOOK_S = 0.2
"""Seconds between two attempts."""

END_S = 10.0
"""Seconds in which the program has to end after SIGTERM."""

LAST_LINES = 15
"""Of what the program printed, shown if it ends too early."""


class Served:
    """A program that serves a page while this context is open.

    It prints into a file. What ends this process, a signal too, ends it and the processes that it started.

    Args:
        command: starts the program.
        address: of the page.
        host, port: where it listens; they must be free.
        variables: of its environment.
        health: path that answers once the page does.

    Raises:
        ConfigurationError: on entering: the address is taken, or not one of this machine.
    """

    def __init__(
        self,
        command: Sequence[str],
        address: str,
        *,
        host: str,
        port: int,
        variables: Mapping[str, str] | None = None,
        health: str = "/",
    ) -> None:
        self.address, self._health = address, f"{address.rstrip('/')}{health}"
        self._command, self._host, self._port = list(command), host, port
        self._variables = {**os.environ, **(variables or {})}
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with this context
        self._process: subprocess.Popen[bytes] | None = None
        self._former: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        require_free(self._host, self._port)
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGHUP):
                self._former[number] = signal.signal(number, _leave)
        self._process = subprocess.Popen(
            self._command,
            env=self._variables,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,  # Ctrl-C reaches this process, which then ends all of that one's
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None, "it was entered"
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(END_S)
        for which, handler in self._former.items():
            signal.signal(which, handler)  # type: ignore[arg-type]
        self._log.close()

    def wait(self, patience: float = PATIENCE_S) -> None:
        """Wait until the page answers, ``patience`` seconds at most.

        Raises:
            ConfigurationError: the program ended, or the page does not answer in time.
        """
        began = time.monotonic()
        while not self._answers():
            self._require_alive()
            if time.monotonic() - began > patience:
                raise self._failure(f"does not answer after {patience:.0f} s")
            time.sleep(LOOK_S)

    def watch(self) -> None:
        """Wait until the program ends, which it does not by itself.

        Raises:
            ConfigurationError: it did.
        """
        assert self._process is not None, "it was entered"
        self._process.wait()
        self._require_alive()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self._health, timeout=5):
                return True
        except (OSError, urllib.error.URLError):
            return False

    def _require_alive(self) -> None:
        assert self._process is not None, "it was entered"
        code = self._process.poll()
        if code is not None:
            raise self._failure(f"ended with code {code}")

    def _failure(self, what: str) -> ConfigurationError:
        self._log.seek(0)
        lines = redact(self._log.read().decode(errors="replace")).splitlines()[-LAST_LINES:]
        said = "\n".join(["", "Its last lines:", *lines]) if lines else ""
        return ConfigurationError(
            f"the server of {self.address} {what}{said}",
            where=" ".join(self._command[:4]),
            fix="correct what it says, or try again when this machine has processor time to spare",
        )


def require_free(host: str, port: int) -> None:
    """Raise ConfigurationError, naming a free port, unless this process could listen at the address."""
    try:
        family, kind, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen at {host}:{port}: {error.strerror or error}",
            where="--port",
            fix=f"end what listens there, or take another port: --port {_free_port(port)}",
        ) from error


def _free_port(taken: int) -> int:
    """The next port that this machine's loopback has free."""
    for port in range(taken + 1, min(taken + 100, 65536)):
        with socket.socket() as tried, contextlib.suppress(OSError):
            tried.bind(("127.0.0.1", port))
            return port
    return min(taken + 1, 65535)


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
