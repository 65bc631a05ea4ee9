"""Messages sent by a real process to a real receiver; their addresses are seen nowhere."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.cli.main import execute
from orchestrator.notices import delivery
from orchestrator.notices.delivery import COMMAND, Sent, deliver, send, without_parts
from orchestrator.notices.notice import Notice

Make = Callable[..., Notice]


def test_a_message_arrives_and_its_address_stands_in_no_command_line(
    receiver: Any, make_notice: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, seen = subprocess.run, []

    def watched(command: Any, **options: Any) -> Any:
        seen.append((command, options["input"]))
        return run(command, **options)

    monkeypatch.setattr(delivery.subprocess, "run", watched)
    assert send(make_notice(), "NOTIFY_TEST") == Sent(True)
    assert receiver.titles == ["demo: finished"] and receiver.ids == [make_notice().id]
    assert receiver.took[0]["type"] == "success"
    assert len(seen) == 1 and "pa55word" not in str(seen) and "t0psecret" not in str(seen)


def test_a_receiver_that_refuses_is_named_without_its_address(
    receiver: Any,
) -> None:
    receiver.answer = 403
    sent = deliver(
        {"variable": "NOTIFY_TEST", "title": "t", "text": "x", "kind": "failed"},
        {"NOTIFY_TEST": receiver.url},
    )
    assert sent.delivered is False and sent.error
    assert not any(part in sent.error for part in ("pa55word", "t0psecret", "courier"))


def test_nothing_is_sent_without_a_variable_or_to_what_is_no_address() -> None:
    message = {"variable": "A", "title": "t", "text": "x", "kind": "failed"}
    assert "not set" in deliver(message, {}).error
    assert deliver(message, {"A": "nonsense://x"}) == Sent(False, "variable A does not hold an Apprise URL")


def test_of_a_process_that_died_nobody_knows_whether_it_delivered(
    make_notice: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "COMMAND", (COMMAND[0], "-c", "import sys; sys.exit('broken')"))
    assert send(make_notice(), "A") == Sent(None, "broken")


def test_every_longer_part_of_an_address_is_left_out() -> None:
    url = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdn?token=abcd1234"
    said = without_parts(f"{url} refused TIiajkdn and abcd1234 of T1JJ3T3L2", url)
    assert said == "*** refused *** and *** of ***"


def test_notify_test_says_who_took_the_message(
    receiver: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DEAD_URL", "json://127.0.0.1:1/t0psecret")
    assert execute(["notify", "test", "demo", "notify=[NOTIFY_TEST, DEAD_URL]", "--json"]) == 1
    shown = capsys.readouterr()
    found = {one["variable"]: one for one in json.loads(shown.out)["addresses"]}
    assert found["NOTIFY_TEST"]["delivered"] and receiver.titles == ["demo: a test message"]
    assert not found["DEAD_URL"]["delivered"] and found["DEAD_URL"]["address"] == "json://127.0.0.1"
    assert "t0psecret" not in shown.out + shown.err
