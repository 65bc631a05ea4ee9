"""Secrets stay out of what is shown, logged and recorded: credentials in URIs, values of secret variables.

A variable is secret by its name (``…TOKEN``, ``…PASSWORD``, ``…_PASS``, ``…_PWD``, ``…SECRET…``, ``…_KEY``,
``…_PAT``, ``…CONNECTION_STRING``); one that ends in ``_PATH`` or ``_FILE`` only says where a secret is.
Passwords within the URIs of other variables count too. Redaction is the second line: nothing here prints
secrets on purpose, but errors of other libraries quote the URI or the header that they failed on.
"""

from __future__ import annotations

import base64
import binascii
import functools
import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any
from urllib.parse import quote, quote_plus, unquote

from orchestrator.printable import printable

HIDDEN = "***"

SHORTEST = 6
"""Characters below which a value is no secret but a word that may stand anywhere."""

_NAME = re.compile(
    r"(^|_)(PASS|PASSPHRASE|PAT|CREDENTIALS?|KEYS?|PWD)(_|$)"
    r"|(TOKENS?|SECRETS?|PASSWORDS?|PASSWD|APIKEYS?|ACCESSKEYS?|ACCOUNTKEYS?)(_|$)"
    r"|(DB|SQL|PG|FTP|MAIL|SMTP|REDIS|MONGO|LDAP|USER|ADMIN|ROOT|PROXY)(PASS|PWD)$"
    r"|(BASIC|HTTP|PROXY|NPM|REDIS|REGISTRY)_?AUTH$|(^|_)AUTH_CONFIG$"
    r"|CONN(ECTION)?_?STR(ING)?(_|$)",
    re.IGNORECASE,
)
_PLACE = re.compile(r"_(PATH|FILE|DIR|NAME)$", re.IGNORECASE)
_NO_SECRETS = frozenset({"PWD", "OLDPWD"})
"""Where a shell is and was."""

_HIDDEN_VARIABLES: set[str] = set()
"""Variables that were said to hold a secret."""

# After a user's name and a colon everything up to the last @ is a password: it may hold @ and, as the keys of
# object stores often do, slashes that nobody escaped. In web addresses a port and a path may stand there.
_PASSWORD = re.compile(
    r"((?:\b(?:https?|wss?)://[^/\s'\"@:]*:(?!\d{1,5}(?:[^\w@.~%!$&*+=:-]|$)))"
    r"|(?:\b(?!https?:|wss?:)[a-z][\w+.-]*://[^/\s'\"@:]*:))([^\s'\"]*)@",
    re.IGNORECASE,
)
_USER = re.compile(r"(?<!/)//(?!/)[^/\s'\"?#]*@")
_SECRET_WORDS = "token|passw|pass|pwd|secret|credential|key|sig|auth(?!or)|sas"
_OPTION = re.compile(rf"([?&#;][^=&;\s'\"]*(?:{_SECRET_WORDS})[^=&;\s'\"]*=)[^&;\s'\"]*", re.IGNORECASE)
_PAIR = re.compile(
    r"(?<![\w-])((?:password|passwd|passphrase|pwd(?!=/)|account_?key|shared_?access_?(?:key|signature)"
    r"|client[-_]?secret|(?:x-)?api[-_]?key|access[-_]?token|(?:x-)?auth[-_]?token|private[-_]token"
    r"|secret[-_]?(?:access[-_]?)?key|aws_secret_access_key|x-amz-security-token)"
    r"(?:=['\"]?|['\"]\s*[:=]\s*['\"]|-?(?<=key|ken):\s+))[^\s;&,'\"})]+",
    re.IGNORECASE,
)
_HEADER = re.compile(
    r"(authorization['\"]?\s*[:=]\s*['\"]?(?:(?:basic|bearer|digest|token|negotiate|apikey)\s+(?=\S{4})|(?=\S{16})))"
    r"[^\s'\",;]+",
    re.IGNORECASE,
)
_BEARER = re.compile(r"(\bbearer\s+)[\w.~+/=-]{6,}", re.IGNORECASE)
_BASIC = re.compile(r"(\bbasic\s+)([\w+/-]{8,}={0,2})", re.IGNORECASE)
_ISSUED = re.compile(
    r"\b(?:gh[pousr]_\w{36,}|github_pat_\w{22,}|glpat-[\w-]{20,}|hf_[A-Za-z0-9]{30,}|dapi[0-9a-f]{32}"
    r"|xox[abpr]-[\w-]{10,}|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]+)"
)
"""Tokens of GitHub, GitLab, Hugging Face, Databricks and Slack, and signed ones (JWT), by their form."""


def is_secret(name: str) -> bool:
    """Whether an environment variable of this name holds a secret."""
    if name in _HIDDEN_VARIABLES:
        return True
    return name not in _NO_SECRETS and _NAME.search(name) is not None and _PLACE.search(name) is None


def hide_variable(name: str) -> None:
    """From now on the value of an environment variable is a secret, whatever the variable is called."""
    _HIDDEN_VARIABLES.add(name)
    _secrets_of.cache_clear()


def secrets_of(environment: Mapping[str, str]) -> list[str]:
    """What is secret in the values of variables, in every form in which it may be quoted; longest first."""
    return _secrets_of(frozenset(environment.items()))


@functools.lru_cache(maxsize=4)
def _secrets_of(environment: frozenset[tuple[str, str]]) -> list[str]:
    values = {secret for name, value in environment for secret in _within(name, value)}
    forms = {form for value in values if len(value) >= SHORTEST for form in _forms(value)}
    return sorted((form for form in forms if len(form) >= SHORTEST), key=len, reverse=True)


def _within(name: str, value: str) -> Iterator[str]:
    """The value of a secret variable, and the passwords and keys in connection strings and URIs."""
    if is_secret(name):
        yield value
        for part in value.split(";"):
            key, _, inner = part.partition("=")
            if is_secret(key.strip()):
                yield inner.strip()
    for found in _PASSWORD.finditer(value):
        yield found[2]


def _forms(secret: str) -> Iterator[str]:
    """As it is and unquoted, and each as libraries quote it: for URIs in several ways, as JSON, as Python."""
    for text in {secret, unquote(secret)}:
        quoted = {quote(text), quote(text, safe=""), quote_plus(text)}
        yield from {text, json.dumps(text)[1:-1], repr(text)[1:-1], *quoted}
        yield from (re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), form) for form in quoted)


def redact(text: str, secrets: Iterable[str] | None = None) -> str:
    """``text`` without credentials in URIs, headers and connection strings, and without secrets.

    Args:
        text: anything that is about to be shown or kept.
        secrets: values to hide; by default those of this process's environment.
    """
    for secret in secrets_of(os.environ) if secrets is None else secrets:
        text = text.replace(secret, HIDDEN)
    text = _USER.sub("//", _PASSWORD.sub(lambda found: found[1].partition("//")[0] + "//", text))
    for pattern in (_OPTION, _PAIR, _HEADER, _BEARER):
        text = pattern.sub(rf"\1{HIDDEN}", text)
    return _ISSUED.sub(HIDDEN, _BASIC.sub(_hide_basic, text))


def _hide_basic(found: re.Match[str]) -> str:
    """Hide a user and a password in base64, and no other word that follows ``basic``."""
    try:
        inside = base64.b64decode(found[2] + "=" * (-len(found[2]) % 4), altchars=b"-_").decode()
    except (binascii.Error, ValueError):
        return found[0]
    return f"{found[1]}{HIDDEN}" if ":" in inside else found[0]


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
