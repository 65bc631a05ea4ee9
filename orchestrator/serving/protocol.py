"""HTTP connections that cannot be held open: uvicorn's own protocol has no bound on the time of headers."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

import h11
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from orchestrator.serving.refusal import Refusal


class BoundedProtocol(H11Protocol):
    """Ends a connection whose next request does not arrive, or whose response is not read, in time.

    Attributes:
        seconds: for each; ``bounded`` gives a class with another number.
    """

    seconds: float = 30.0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._rest()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._answering:
            self._rest()

    def on_response_complete(self) -> None:
        super().on_response_complete()  # may begin with the next request
        if not self._answering and not self.transport.is_closing():
            self._watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._rest()

    def send_400_response(self, msg: str) -> None:
        self._end(HTTPStatus.BAD_REQUEST, "invalid_http", msg)

    @property
    def _answering(self) -> bool:
        """A request has come and its response is not complete: the application bounds its time."""
        return self.cycle is not None and not self.cycle.response_complete

    def _watch(self) -> None:
        self._rest()
        self._timer = self.loop.call_later(self.seconds, self._expire)

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        if self.transport.is_closing() or self._answering:
            self.transport.abort()
        elif self.conn.our_state is h11.IDLE:
            self._end(
                HTTPStatus.REQUEST_TIMEOUT,
                "too_slow",
                f"the headers did not arrive within {self.seconds:g} s",
            )
        else:
            self.transport.close()

    def _end(self, status: HTTPStatus, code: str, message: str) -> None:
        body = Refusal(status, code, message).body()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        answer = h11.Response(status_code=status, headers=headers, reason=STATUS_PHRASES[status])
        for event in (answer, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


def bounded(seconds: float) -> type[BoundedProtocol]:
    """The protocol with that bound."""
    return type("BoundedProtocol", (BoundedProtocol,), {"seconds": seconds})
