"""A server in this process: its socket, its signals, its end."""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from mmap_model.errors import ConfigurationError
from orchestrator.serving.admission import Admission
from orchestrator.serving.gate import log
from orchestrator.serving.protocol import bounded

BACKLOG = 512
DONE, CUT_OFF = 0, 1


def bind(host: str, port: int) -> socket.socket:
    """A socket at that address, on which nothing listens yet.

    Raises:
        ConfigurationError: the address is taken, or not one of this machine.
    """
    try:
        kind, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][
            ::4
        ]
        bound = socket.socket(kind, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        raise _taken(f"{host}:{port}", error) from error
    return bound


def address(bound: socket.socket) -> str:
    """URL of a bound socket."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_loopback(bound: socket.socket) -> bool:
    """Whether only this machine reaches a bound socket."""
    return ip_address(bound.getsockname()[0].partition("%")[0]).is_loopback


def serve(app: ASGIApp, bound: socket.socket, admission: Admission, *, started: Callable[[], None]) -> int:
    """Answer requests until a signal ends it.

    SIGTERM or SIGINT: what was begun is finished, further requests get 503. A second one: at once.

    Args:
        app: the application.
        bound: from ``bind``.
        admission: of the application.
        started: called once requests are answered.

    Returns:
        Exit code: 0, or 1 if requests were cut off as they took too long to finish.

    Raises:
        ConfigurationError: somebody else listens at the address by now.
    """
    _log_to_stderr()
    config = uvicorn.Config(
        app,
        http=bounded(admission.limits.read),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=5,
    )
    server = _Server(config, admission, started)
    try:
        server.run(sockets=[bound])
    except OSError as error:
        raise _taken(address(bound), error) from error
    return CUT_OFF if server.cut_off else DONE


class _Server(uvicorn.Server):
    """Keeps listening while it drains, so that clients are told instead of refused."""

    def __init__(self, config: uvicorn.Config, admission: Admission, told: Callable[[], None]) -> None:
        super().__init__(config)
        self._admission, self._told = admission, told
        self._until = 0.0
        self.cut_off = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._told()

    async def on_tick(self, counter: int) -> bool:
        if self._admission.draining:
            self.cut_off = self._admission.requests > 0 and time.monotonic() > self._until
            self.should_exit = self.cut_off or self._admission.requests == 0
        return await super().on_tick(counter)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        former = {sig: signal.signal(sig, self._stop) for sig in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for sig, handler in former.items():
                signal.signal(sig, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self._admission.draining:
            os._exit(128 + number)  # a forward that runs cannot be interrupted otherwise
        self._until = time.monotonic() + self._admission.limits.drain
        self._admission.draining = True


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    for logger, level in ((log, logging.INFO), (logging.getLogger("uvicorn.error"), logging.ERROR)):
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)


def _taken(place: str, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"cannot listen at {place}: {error.strerror or error}",
        where="--host, --port",
        fix="use another --port, or end what listens there",
    )
