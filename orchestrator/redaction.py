"""Secrets stay out of what is shown, logged and recorded: credentials in URIs, values of secret variables.

A variable is secret by its name (``…TOKEN``, ``…PASSWORD``, ``…SECRET…``, ``…_KEY``); one that ends in
``_PATH`` or ``_FILE`` only says where a secret is. Redaction is the second line: nothing here prints secrets
on purpose, but errors of other libraries quote the URI or the header that they failed on.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import traceback
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

from orchestrator.printable import printable

HIDDEN = "***"

SHORTEST = 6
"""Characters below which a value is no secret but a word that may stand anywhere."""

_NAME = re.compile(r"(^|_)(TOKEN|PASSWORD|PASSWD|SECRETS?|CREDENTIALS?|KEY)(_|$)", re.IGNORECASE)
_PLACE = re.compile(r"_(PATH|FILE|DIR|NAME)$", re.IGNORECASE)
_USER = re.compile(r"//[^/\s'\"@]*@")
# The secret keys of object stores contain slashes, which are often forgotten to be escaped.
_KEYS = re.compile(r"\b((?!https?:)[a-z][\w+.-]*://)[^/\s'\"@:]*:[^\s'\"@]*@", re.IGNORECASE)
_OPTION = re.compile(
    r"([?&][^=&\s'\"]*(?:token|password|secret|credential|key|sig)[^=&\s'\"]*=)[^&\s'\"]*", re.IGNORECASE
)
_BEARER = re.compile(r"(\bbearer\s+)[\w.~+/=-]{6,}", re.IGNORECASE)


def is_secret(name: str) -> bool:
    """Whether an environment variable of this name holds a secret."""
    return _NAME.search(name) is not None and _PLACE.search(name) is None


def secrets_of(environment: Mapping[str, str]) -> list[str]:
    """Values of the secret variables, the longest first."""
    values = {value for name, value in environment.items() if is_secret(name) and len(value) >= SHORTEST}
    return sorted(values, key=len, reverse=True)


def redact(text: str, secrets: Iterable[str] | None = None) -> str:
    """``text`` without credentials in URIs and without secrets.

    Args:
        text: anything that is about to be shown or kept.
        secrets: values to hide; by default those of this process's environment.
    """
    for secret in secrets_of(os.environ) if secrets is None else secrets:
        text = text.replace(secret, HIDDEN)
    text = _USER.sub("//", _KEYS.sub(r"\1", text))
    return _BEARER.sub(rf"\1{HIDDEN}", _OPTION.sub(rf"\1{HIDDEN}", text))


def has_credentials(uri: str) -> bool:
    """Whether a URI carries a user, a password or a key."""
    return redact(uri, ()) != uri


def shown_uri(uri: str) -> str:
    """A URI for people: no credentials, no options."""
    return redact(uri, ()).partition("?")[0]


def redact_logging() -> None:
    """From now on no log record and no uncaught error of this process shows a secret."""
    make = logging.getLogRecordFactory()
    if getattr(make, "redacts", False):
        return

    def redacting(*arguments: Any, **options: Any) -> logging.LogRecord:
        record = make(*arguments, **options)
        try:
            said = record.getMessage()
        except Exception:  # a malformed record is for the handler to complain about
            return record
        if (clean := redact(said)) != said:
            record.msg, record.args = clean, None
        if record.exc_info and record.exc_info[1] is not None:
            record.exc_text = redact("".join(traceback.format_exception(record.exc_info[1])).rstrip())
        return record

    redacting.redacts = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(redacting)
    sys.excepthook = _show_uncaught


def _show_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    text = "".join(traceback.format_exception(kind, error, trace))
    print(printable(redact(text)), end="", file=sys.stderr, flush=True)
