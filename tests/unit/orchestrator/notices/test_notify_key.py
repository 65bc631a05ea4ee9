"""The key ``notify``: names of variables, never what they hold; no part of what a study is."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmap_model.errors import InputError
from orchestrator.cli.main import execute
from orchestrator.notices import addresses
from orchestrator.notices.addresses import check_addresses
from orchestrator.redaction import redact
from orchestrator.study import check_rerun, identity, load_study, study_from_plain
from orchestrator.study.notify import Notify

SECRET = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"


def test_a_study_may_name_one_variable_or_several() -> None:
    assert load_study("demo").notify is None
    for given, names in {"NOTIFY_URL": ("NOTIFY_URL",), "[TEAM_URL, MY_URL]": ("TEAM_URL", "MY_URL")}.items():
        notify = load_study("demo", [f"notify={given}"]).notify
        assert notify is not None and notify.to == names
        assert notify.events == ("finished", "failed", "stalled", "budget", "slot_lost")
    full = load_study("demo", ["notify={to: MY_URL, events: [improved], stalled_after_s: 60}"]).notify
    assert full == Notify(to=("MY_URL",), events=("improved",), stalled_after_s=60.0)


@pytest.mark.parametrize("key", ["notify", "notify.to", "notify.to.0"])
def test_an_address_in_place_of_its_variable_is_refused_and_not_repeated(
    key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = ["notify.to=[A]"] if key.endswith("0") else []
    assert execute(["plan", "demo", *before, f"{key}={SECRET}"]) == 2
    said = "".join(capsys.readouterr())
    assert "name of an environment variable" in said.replace("\n", " ")
    assert not any(part in said for part in ("T1JJ3T3L2", "TIiajkdnlazkcOXrIdevi7FQ"))


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ("notify={to: []}", "notify.to"),
        ("notify={to: [A, A]}", "notify.to"),
        ("notify={to: A, events: [party]}", "notify.events"),
        ("notify={to: A, stalled_after_s: 0}", "notify.stalled_after_s"),
        ("notify={to: A, when: [finished]}", "notify.when"),
        ("notify={events: [finished]}", "notify.to"),
    ],
)
def test_what_is_wrong_is_named(given: str, where: str) -> None:
    with pytest.raises(InputError) as refused:
        load_study("demo", [given])
    assert where in str(refused.value)


def test_who_is_told_is_no_part_of_a_study_and_may_change() -> None:
    silent, telling = load_study("demo"), load_study("demo", ["notify=NOTIFY_URL"])
    assert "notify" not in silent.to_plain(), "keys of earlier records stay as they are"
    assert identity(silent) == identity(telling)
    check_rerun(silent, telling)
    check_rerun(telling, silent)
    assert study_from_plain(telling.to_plain(), "study.json") == telling


def test_addresses_are_shown_by_service_and_host_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_URL", "json://me:pa55word@example.org:8080/hooks/t0ken?x=secret")
    monkeypatch.setenv("TEAM_URL", SECRET)
    assert check_addresses(Notify(to=("MY_URL", "TEAM_URL"))) == {
        "MY_URL": "json://example.org",
        "TEAM_URL": "slack://",
    }
    assert redact(f"refused: {SECRET}") == "refused: ***", "whatever the variable is called"


@pytest.mark.parametrize(
    ("value", "problem"),
    [(None, "not set"), (" ", "not set"), ("nonsense://x", "not hold"), ("x", "not hold")],
)
def test_a_variable_without_an_address_is_refused_before_anything_starts(
    value: str | None,
    problem: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MY_URL", raising=False)
    if value is not None:
        monkeypatch.setenv("MY_URL", value)
    for command in ("plan", "sweep"):
        assert execute([command, "demo", "notify=MY_URL", "tracking.uri=sqlite:///m.db"]) == 2
        said = " ".join(capsys.readouterr().err.split())
        assert "MY_URL" in said and problem in said
    assert not (tmp_path / "runs" / "studies").exists()


def test_without_apprise_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="uv sync --inexact --extra notify"):
        check_addresses(Notify(to=("MY_URL",)))


def test_plan_says_whom_a_study_tells(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MY_URL", "json://example.org/t0ken")
    assert execute(["plan", "demo", "notify=MY_URL"]) == 0
    said = capsys.readouterr().out
    assert "json://example.org (MY_URL): finished, failed" in said and "t0ken" not in said


def test_notify_test_of_a_study_that_tells_nobody_is_bad_input() -> None:
    assert execute(["notify", "test", "demo"]) == 2
