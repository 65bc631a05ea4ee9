"""What every request passes first and last: the token, bounds on its body and time, one line of the log."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from ipaddress import ip_address

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.printable import printable
from orchestrator.serving.admission import Admission, Buffered
from orchestrator.serving.metrics import Metrics
from orchestrator.serving.refusal import Refusal, too_large

log = logging.getLogger("orchestrator.serving")

EXCHANGE = "orchestrator.exchange"
"""Key of a request's scope, under which its ``Exchange`` is."""

HEALTH = "/healthz"
OPEN = frozenset({HEALTH, "/docs", "/openapi.json"})
"""Paths that need no token: they say nothing of models."""
WATCHED = frozenset({HEALTH, "/metrics"})
"""Paths that are answered while the server drains."""
_PATHS = OPEN | WATCHED | {"/v1/predict", "/v1/models"}

_LINGER = 5.0
"""Seconds for which the rest of a refused body is thrown away, so that its sender reads the refusal."""
_THROWN_AWAY = 2**30
"""Bytes of it, at most."""
_SHOWN_PATH = 200


@dataclass
class Exchange:
    """One request and its response, as the log tells of them.

    Attributes:
        status: of the response; 499 if the client went before there was one.
        received: bytes of the body.
        complete: nothing of the body is left to read.
        waiting: the client sends its body only when told to.
        until: time of the event loop by which the body has to be there.
        buffered: the bytes of the body that are held.
        notes: further words of the log line.
    """

    status: int = 499
    received: int = 0
    complete: bool = False
    waiting: bool = False
    until: float = 0.0
    buffered: Buffered | None = None
    notes: dict[str, object] = field(default_factory=dict)


class Gate:
    """An ASGI application around another."""

    def __init__(
        self, app: ASGIApp, admission: Admission, metrics: Metrics, token: str | None, *, local: bool = False
    ) -> None:
        """See ``make_app``."""
        self._app, self._admission, self._metrics, self._local = app, admission, metrics, local
        self._token = None if token is None else token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.monotonic()
        headers = Headers(scope=scope)
        exchange = scope[EXCHANGE] = Exchange(
            complete=headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers,
            waiting=headers.get("expect", "").lower() == "100-continue",
            until=asyncio.get_running_loop().time() + self._admission.limits.read,
        )
        answer = _answering(exchange, receive, send)
        try:
            self._check(scope, headers)
            with Buffered(self._admission) as exchange.buffered:
                await self._app(scope, self._bounded(exchange, exchange.buffered, receive), answer)
        except Refusal as refusal:
            await refuse(refusal, answer)
        except Exception:  # the application has answered with 500
            log.exception("a request failed")
        finally:
            self._tell(scope, exchange, time.monotonic() - start)

    def _check(self, scope: Scope, headers: Headers) -> None:
        """Raise the refusal of a request whose body need not be read."""
        path, limits = _route(scope), self._admission.limits
        if self._admission.draining and path not in WATCHED:
            raise Refusal(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "stopping",
                "the server is stopping",
                "send it to another server, or again after the seconds of Retry-After",
                {"Retry-After": "5"},
            )
        if path not in OPEN and not self._allowed(headers):
            raise Refusal(
                HTTPStatus.UNAUTHORIZED,
                "unauthorized",
                "the token is missing or wrong",
                "send the header Authorization: Bearer TOKEN",
                {"WWW-Authenticate": "Bearer"},
            )
        if self._local and self._token is None and _from_a_web_page(headers):
            raise Refusal(
                HTTPStatus.FORBIDDEN,
                "foreign_page",
                "the request comes from a web page, or names another host than this machine",
                "ask http://127.0.0.1 or http://localhost, or start the server with --token-from",
            )
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > limits.bytes:
            raise self._too_large()
        if path == "/v1/predict":
            self._admission.room()

    def _allowed(self, headers: Headers) -> bool:
        if self._token is None:
            return True
        scheme, _, token = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(token.strip().encode(), self._token)

    def _too_large(self) -> Refusal:
        most = self._admission.limits.bytes
        return too_large(f"a request may have {most} bytes", "send several requests, or smaller images")

    def _bounded(self, exchange: Exchange, buffered: Buffered, receive: Receive) -> Receive:
        """``receive``, until there is too much of a body or it takes too long."""

        async def bounded() -> Message:
            if exchange.complete:
                return await receive()
            try:
                async with asyncio.timeout_at(exchange.until):
                    message = await receive()
            except TimeoutError:
                raise Refusal(
                    HTTPStatus.REQUEST_TIMEOUT,
                    "too_slow",
                    f"the body did not arrive within {self._admission.limits.read:g} s",
                    "send smaller images, or fewer at a time",
                ) from None
            if message["type"] != "http.request":
                exchange.complete = True
                return message
            exchange.waiting = False
            exchange.complete = not message.get("more_body", False)
            count = len(message.get("body", b""))
            exchange.received += count
            if exchange.received > self._admission.limits.bytes:
                raise self._too_large()
            buffered.add(count)
            return message

        return bounded

    def _tell(self, scope: Scope, exchange: Exchange, seconds: float) -> None:
        path = _route(scope)
        known = path if path in _PATHS else "other"
        self._metrics.requests.labels(known, str(exchange.status)).inc()
        self._metrics.seconds.labels(known).observe(seconds)
        shown = printable(path[:_SHOWN_PATH]).replace("\n", "␊").replace("\t", " ")
        client = scope.get("client") or ("-",)
        notes = "".join(f" {name}={value}" for name, value in exchange.notes.items())
        log.info(
            "%s %s %s %d %.1f ms %d bytes%s",
            client[0],
            scope["method"],
            shown,
            exchange.status,
            1000 * seconds,
            exchange.received,
            notes,
        )


def _from_a_web_page(headers: Headers) -> bool:
    """Whether a page of some site could have sent this from a browser on this machine.

    It can send forms, and, where its name leads to this machine all of a sudden, read answers too.
    """
    if headers.get("sec-fetch-site") == "cross-site":
        return True
    name = headers.get("host", "localhost").rpartition("]")[0].lstrip("[")
    name = name or headers.get("host", "localhost").partition(":")[0]
    with suppress(ValueError):
        ip_address(name)
        return False
    return name.lower() != "localhost"


def _route(scope: Scope) -> str:
    """The path below the prefix that the application is mounted at."""
    return str(scope["path"]).removeprefix(scope.get("root_path", ""))


async def refuse(refusal: Refusal, send: Send) -> None:
    """Answer with a refusal."""
    body = refusal.body()
    headers = MutableHeaders({"content-type": "application/json", "content-length": str(len(body))})
    headers.update(refusal.headers)
    await send({"type": "http.response.start", "status": int(refusal.status), "headers": headers.raw})
    await send({"type": "http.response.body", "body": body})


def _answering(exchange: Exchange, receive: Receive, send: Send) -> Send:
    """``send`` that closes a connection on which a body is left unread, once its sender had time to read."""

    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            exchange.status = message["status"]
            if not exchange.complete:
                MutableHeaders(scope=message)["connection"] = "close"
        elif not exchange.complete and not message.get("more_body", False):
            await send({**message, "more_body": True})
            await _throw_away(exchange, receive)
            message = {"type": "http.response.body", "body": b""}
        await send(message)

    return answer


async def _throw_away(exchange: Exchange, receive: Receive) -> None:
    """Read what is left of a body. A connection closed before that would be reset, and the answer lost."""
    exchange.complete = True
    if exchange.buffered is not None:
        exchange.buffered.release()
    if exchange.waiting:
        return
    now, left = asyncio.get_running_loop().time(), _THROWN_AWAY
    if now >= exchange.until:  # refused for being slow: it gets no more time
        return
    try:
        async with asyncio.timeout_at(now + _LINGER):
            while left > 0:
                message = await receive()
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return
                left -= len(message.get("body", b""))
    except TimeoutError:
        return
