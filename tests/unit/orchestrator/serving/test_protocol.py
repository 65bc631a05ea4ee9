"""Connections end in time, whatever a client leaves undone; a clock that is set by hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from orchestrator.serving.protocol import bounded

REQUEST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n"


class Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written, self.ended = b"", ""

    def write(self, data: Any) -> None:
        self.written += data

    def close(self) -> None:
        self.ended = self.ended or "closed"

    def abort(self) -> None:
        self.ended = "aborted"

    def is_closing(self) -> bool:
        return bool(self.ended)

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


class Clock(asyncio.SelectorEventLoop):
    """An event loop whose time stands still until ``ahead``."""

    now = 0.0

    def time(self) -> float:
        return self.now

    async def ahead(self, seconds: float) -> None:
        self.now += seconds
        for _ in range(20):
            await asyncio.sleep(0)


async def answers(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads a body where the path is /read, then says yes."""
    if scope["path"] == "/read":
        while (await receive()).get("more_body"):
            pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]})
    await send({"type": "http.response.body", "body": b"yes"})


def connected(
    does: Callable[[Clock, Any, Transport], Any], app: Any = answers, seconds: float = 10
) -> Transport:
    """What became of a connection on which ``does`` happened."""
    loop, transport = Clock(), Transport()
    config = uvicorn.Config(app, http=bounded(seconds), ws="none", log_config=None, timeout_keep_alive=50)

    async def run() -> None:
        protocol = config.http_protocol_class(
            config=config, server_state=ServerState(), app_state={}, _loop=loop
        )
        protocol.connection_made(transport)
        try:
            await does(loop, protocol, transport)
        finally:  # as the real transport says in the end
            protocol.connection_lost(None)
            await loop.ahead(0)

    config.load()
    try:
        loop.run_until_complete(run())
    finally:
        loop.close()
    return transport


@pytest.mark.parametrize("sent", [b"", b"POST / HT", b"GET / HTTP/1.1\r\nHost: x\r\nX: "])
def test_headers_that_do_not_arrive_are_408(sent: bytes) -> None:
    async def slow(loop: Clock, protocol: Any, transport: Transport) -> None:
        if sent:
            protocol.data_received(sent)
        await loop.ahead(6)
        if sent:
            protocol.data_received(b"a")  # one byte after the other gains no time
        assert not transport.ended
        await loop.ahead(6)

    found = connected(slow)
    assert found.ended == "closed" and found.written.startswith(b"HTTP/1.1 408 ")
    assert json.loads(found.written.partition(b"\r\n\r\n")[2])["error"]["code"] == "too_slow"


def test_a_request_that_is_being_answered_is_not_cut_off() -> None:
    release = asyncio.Event()

    async def waits(scope: Scope, receive: Receive, send: Send) -> None:
        await release.wait()
        await answers(scope, receive, send)

    async def patient(loop: Clock, protocol: Any, transport: Transport) -> None:
        protocol.data_received(REQUEST + b"abc")
        await loop.ahead(100)
        assert not transport.ended and not transport.written
        release.set()
        await loop.ahead(0)
        assert transport.written.endswith(b"yes") and not transport.ended

    connected(patient, waits)


def test_the_next_request_has_the_same_time() -> None:
    async def twice(loop: Clock, protocol: Any, transport: Transport) -> None:
        for _ in range(2):
            await loop.ahead(9)
            protocol.data_received(REQUEST.replace(b" / ", b" /read "))
            protocol.data_received(b"abc")
            await loop.ahead(0)
        assert transport.written.count(b"yes") == 2 and not transport.ended
        protocol.data_received(b"GET")
        await loop.ahead(11)

    found = connected(twice)
    assert found.ended and b"HTTP/1.1 408 " in found.written


def test_a_body_that_nobody_reads_holds_no_connection() -> None:
    async def trickle(loop: Clock, protocol: Any, transport: Transport) -> None:
        protocol.data_received(REQUEST)
        await loop.ahead(0)
        assert transport.written.endswith(b"yes")
        await loop.ahead(6)
        protocol.data_received(b"a")
        await loop.ahead(6)

    assert connected(trickle).ended == "closed"


def test_an_answer_that_is_not_read_in_time_ends_the_connection() -> None:
    async def deaf(loop: Clock, protocol: Any, transport: Transport) -> None:
        protocol.data_received(REQUEST.replace(b" / ", b" /read "))
        protocol.pause_writing()
        await loop.ahead(6)
        protocol.resume_writing()
        await loop.ahead(6)
        assert not transport.ended
        protocol.pause_writing()
        await loop.ahead(11)

    assert connected(deaf).ended == "aborted"


def test_what_is_no_http_is_400_in_json() -> None:
    async def garbage(loop: Clock, protocol: Any, transport: Transport) -> None:
        protocol.data_received(b"\x16\x03\x01\r\n\r\n")

    found = connected(garbage)
    assert found.ended == "closed" and found.written.startswith(b"HTTP/1.1 400 ")
    assert json.loads(found.written.partition(b"\r\n\r\n")[2])["error"]["code"] == "invalid_http"
