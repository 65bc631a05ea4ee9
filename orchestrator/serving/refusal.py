"""A request that is not answered with predictions: status, code, message and what to do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import TypedDict


class ErrorBody(TypedDict):
    """What every error says, in JSON."""

    code: str
    message: str
    fix: str | None


class Refusal(Exception):
    """Ends a request with an error.

    Args:
        status: of the response.
        code: one word for programs.
        message: what is wrong.
        fix: what to change.
        headers: further ones of the response.
    """

    def __init__(
        self,
        status: HTTPStatus,
        code: str,
        message: str,
        fix: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.fix = status, code, message, fix
        self.headers = dict(headers or {})

    @property
    def error(self) -> ErrorBody:
        return {"code": self.code, "message": self.message, "fix": self.fix}

    def body(self) -> bytes:
        """The response's body, JSON."""
        return json.dumps({"error": self.error}, ensure_ascii=False).encode()


def too_large(message: str, fix: str, code: str = "too_large") -> Refusal:
    return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, code, message, fix)


def unknown(code: str, message: str, fix: str) -> Refusal:
    """A request that names what there is not, or lacks what it needs."""
    return Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, code, message, fix)


def busy(message: str) -> Refusal:
    return Refusal(
        HTTPStatus.TOO_MANY_REQUESTS,
        "busy",
        message,
        "send it again after the seconds of Retry-After, or fewer at a time",
        {"Retry-After": "1"},
    )
