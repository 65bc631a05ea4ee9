"""``orchestrator ui``: what it prints, what it starts and what it refuses."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.main import execute
from orchestrator.ledger import StudyStore
from orchestrator.pages import optuna_page, served
from orchestrator.study import load_study
from orchestrator.tracking import Connection, TrackingError
from orchestrator.tracking.mlflow import page_api

SERVER = "http://127.0.0.1:9"


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyStore:
    """A study whose runs are on a server that nobody serves; nothing may be started."""

    def started(*about: Any, **more: Any) -> None:
        raise AssertionError(f"{about} was started")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(served.subprocess, "Popen", started)
    study = load_study("demo", ["storage=runs", f"tracking.uri={SERVER}"])
    store = StudyStore("runs", "demo")
    store.save_study(study.to_plain())
    return store


@pytest.fixture
def taken() -> Iterator[int]:
    """A port where somebody listens."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_runs_on_a_server_are_pointed_to_and_nothing_is_started(
    stored: StudyStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, Connection]] = []

    def address(page: str, to: Connection) -> str:
        asked.append((page, to))
        return f"{page}/#/mine"

    monkeypatch.setattr(page_api, "study_address", address)
    assert execute(["ui", "demo"]) == 0
    assert f"{SERVER}/#/mine" in capsys.readouterr().out
    ((page, to),) = asked
    assert (page, to.experiment, to.study) == (SERVER, "demo", stored.id)
    assert "recipe.lr" in to.varies


def test_a_server_that_does_not_say_where_they_are_is_pointed_to_with_the_reason(
    stored: StudyStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def address(page: str, to: Connection) -> str:
        raise TrackingError("it has no runs of demo yet", where="STUDY", fix="orchestrator track demo")

    monkeypatch.setattr(page_api, "study_address", address)
    assert execute(["ui", "demo"]) == 0
    said = capsys.readouterr()
    assert SERVER in said.out and "orchestrator track demo" in said.err


@pytest.mark.usefixtures("stored")
def test_a_taken_port_is_refused_before_anything_is_started(
    taken: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["ui", "demo", "tracking.uri=sqlite:///mlflow.db", "--port", str(taken)]) == 2
    said = capsys.readouterr().err
    assert "--port" in said and str(taken) in said
    assert execute(["ui", "demo", "--optuna", "--port", str(taken)]) == 2
    assert str(taken) in capsys.readouterr().err


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--follow"], "--optuna"), (["search.trials=3", "--optuna"], "overrides")],
)
def test_options_that_do_not_go_together_are_refused(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["ui", "demo", *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.usefixtures("stored")
def test_a_missing_dashboard_is_refused_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(optuna_page, "find_spec", lambda name: None)
    assert execute(["ui", "demo", "--optuna"]) == 2
    assert "uv sync --extra dashboard" in capsys.readouterr().err
