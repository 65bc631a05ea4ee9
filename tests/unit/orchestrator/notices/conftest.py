"""Shared by the tests of notices: a real HTTP receiver on loopback, and notices to send."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import pytest

from orchestrator.notices.notice import Notice


class Receiver:
    """Takes what Apprise posts to ``url``.

    Attributes:
        took: bodies, in order.
        answer: HTTP status of its answers.
        arrived: set by every request.
    """

    def __init__(self, port: int = 0) -> None:
        self.took: list[dict[str, Any]] = []
        self.answer = 200
        self.arrived = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if receiver.answer == 200:
                    receiver.took.append(body)
                self.send_response(receiver.answer)
                self.end_headers()
                receiver.arrived.set()

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """With a password and a path that nobody else must see."""
        return f"json://courier:pa55word@127.0.0.1:{self.port}/hooks/t0psecret"

    @property
    def ids(self) -> list[str]:
        """Of the events that it was told."""
        return [re.findall(r"event (\w+)", body["message"])[-1] for body in self.took]

    @property
    def titles(self) -> list[str]:
        return [body["title"] for body in self.took]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def make_receiver() -> type[Receiver]:
    """Makes receivers, at a port of one's own where one is to come back."""
    return Receiver


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """Takes notices at the address in ``NOTIFY_TEST``."""
    with Receiver() as found:
        monkeypatch.setenv("NOTIFY_TEST", found.url)
        yield found


@pytest.fixture
def make_notice() -> Callable[..., Notice]:
    """A notice that a run has finished."""

    def make(subject: str = "run-1", **fields: Any) -> Notice:
        about = {
            "study": "demo",
            "study_id": "s1",
            "subject": subject,
            "happened": "finished",
            "lines": "Winner: trial 3",
            "at": "2026-01-01T00:00:00+00:00",
        }
        return Notice.of("finished", **{**about, **fields})

    return make
