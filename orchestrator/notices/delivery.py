"""One message sent, in a process of its own: ``python -m orchestrator.notices.delivery``.

The driver never waits for a receiver, and never imports Apprise while it works. The address does not travel:
this process takes it from the environment variable that it is told, so it stands in no command line. What it
says of a failure holds no part of the address.

    standard input    {"variable": NAME, "title": …, "text": …, "kind": …}
    standard output   {"delivered": true} or {"delivered": false, "error": words}
"""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from orchestrator.notices.notice import Notice
from orchestrator.redaction import HIDDEN, redact

COMMAND = (sys.executable, "-m", "orchestrator.notices.delivery")

SEND_S = 60.0
"""Seconds that an attempt may take; Apprise gives a receiver 8 of them."""

SHORTEST = 4
"""Characters of a part of an address from which on it may be a secret."""

TYPES = {"failed": "failure", "stalled": "warning", "slot_lost": "warning", "finished": "success"}
"""Apprise's types by the kind of a notice; others are ``info``."""


@dataclass(frozen=True)
class Sent:
    """How an attempt ended.

    Attributes:
        delivered: the receiver took it; None: nobody knows.
        error: why not, without secrets.
    """

    delivered: bool | None
    error: str = ""


Send = Callable[[Notice, str], Sent]
"""Sends a notice to the address in a variable."""


def send(notice: Notice, variable: str) -> Sent:
    """Send a notice to the address in an environment variable, and wait for the end of the attempt."""
    message = {"variable": variable, "title": notice.title, "text": notice.text, "kind": notice.kind}
    try:
        done = subprocess.run(
            COMMAND, input=json.dumps(message), capture_output=True, text=True, timeout=SEND_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Sent(None, f"no answer in {SEND_S:.0f} s")
    except OSError as error:
        return Sent(False, f"its process could not be started: {error}")
    try:
        answer = json.loads(done.stdout)
        return Sent(bool(answer["delivered"]), str(answer.get("error", "")))
    except (ValueError, KeyError, TypeError):
        lines = done.stderr.strip().splitlines() or [f"its process ended with exit code {done.returncode}"]
        return Sent(None, redact(lines[-1]))


def deliver(message: Mapping[str, str], environment: Mapping[str, str]) -> Sent:
    """Send a message from this process."""
    url = environment.get(message["variable"], "").strip()
    if not url:
        return Sent(False, f"variable {message['variable']} is not set here")
    try:
        import apprise
    except ModuleNotFoundError:
        return Sent(False, "apprise is not installed here")
    said: list[str] = []
    log = logging.getLogger("apprise")
    log.addHandler(_Kept(said))
    log.propagate = False
    target = apprise.Apprise()
    if not target.add(url):
        return Sent(False, f"variable {message['variable']} does not hold an Apprise URL")
    kind = TYPES.get(message["kind"], "info")
    if target.notify(body=message["text"], title=message["title"], notify_type=kind):
        return Sent(True)
    words = said[-1] if said else "the receiver refused it"
    return Sent(False, without_parts(redact(words), url))


def without_parts(text: str, url: str) -> str:
    """A text without the address and without any longer part of it: each may be a token."""
    address = url.partition("://")[2]
    for part in sorted({url, address, *re.split(r"[/:@?&=#]+", address)}, key=len, reverse=True):
        if len(part) >= SHORTEST:
            text = text.replace(part, HIDDEN)
    return text


class _Kept(logging.Handler):
    """Keeps what Apprise says of its failures."""

    def __init__(self, said: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._said = said

    def emit(self, record: logging.LogRecord) -> None:
        self._said.append(record.getMessage())


def main() -> None:
    """Send the message of standard input."""
    os.nice(5)
    sent = deliver(json.load(sys.stdin), os.environ)
    print(json.dumps({"delivered": sent.delivered, "error": sent.error}))


if __name__ == "__main__":
    main()
