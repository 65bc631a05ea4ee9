"""``orchestrator report``: what it writes, what it refuses, and what it says to scripts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.main import execute
from orchestrator.ledger import StudyStore
from orchestrator.study import load_study


@pytest.fixture
def folder(make_study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command runs; ``runs`` has the study ``made``, with settings that can be read."""
    study = make_study()
    plain = load_study("demo", ["name=made", f"storage={tmp_path / 'runs'}"]).to_plain()
    StudyStore(study.store.storage, "made").save_study(plain)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_page_and_tables_are_written_and_listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["report", "made", "--out", "pages/one.html", "--tables", "csv,tex", "--json"]) == 0
    written = json.loads(capsys.readouterr().out)
    assert [entry["file"] for entry in written] == ["pages/one.html", "pages/one.csv", "pages/one.tex"]
    for entry in written:
        assert (folder / entry["file"]).stat().st_size == entry["bytes"]
    assert execute(["report", "--check", "pages/one.html"]) == 0
    assert "matches the records" in capsys.readouterr().out


def test_a_changed_page_fails_its_check(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["report", "made"]) == 0
    page = folder / "made.html"
    text = page.read_text("utf-8")
    at = text.index('data-field="val.mean"')
    at = next(i for i in range(text.index(">", at), len(text)) if text[i].isdigit())
    page.write_text(text[:at] + str((int(text[at]) + 1) % 10) + text[at + 1 :], "utf-8")
    capsys.readouterr()
    assert execute(["report", "--check", "made.html"]) == 1
    assert "section verdict" in " ".join(capsys.readouterr().err.split())
    assert execute(["report", "--check", "made.html", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["holds"] is False and told["difference"]["record"].startswith("studies/made/trials/")


def test_an_earlier_page_is_replaced_and_any_other_file_is_not(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["report", "made"]) == execute(["report", "made", "--no-test"]) == 0
    assert "were left out" in (folder / "made.html").read_text("utf-8")
    (folder / "thesis.html").write_text("three years of work")
    assert execute(["report", "made", "--out", "thesis.html"]) == 2
    assert (folder / "thesis.html").read_text() == "three years of work"
    assert "--out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["report"], "no study is given"),
        (["report", "nobody"], "never run"),
        (["report", "made", "--tables", "docx"], "unknown format"),
        (["report", "--check", "missing.html"], "no such file"),
        (["report", "made", "--check", "made.html"], "names its studies itself"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert execute(arguments) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not list(folder.glob("*.html"))


def test_without_plotly_the_command_says_how_to_get_it(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.resources

    files = importlib.resources.files

    def missing(package: Any) -> Any:
        if package == "plotly":
            raise ModuleNotFoundError(package)
        return files(package)

    monkeypatch.setattr(importlib.resources, "files", missing)
    assert execute(["report", "made"]) == 2
    assert "--extra report" in " ".join(capsys.readouterr().err.split())
