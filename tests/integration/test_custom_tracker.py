"""The example of docs/custom_tracker.md is what the page shows, and a study tells it from outside."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmap_model import references
from orchestrator.cli.main import execute

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLE = DOCS / "examples" / "json_lines.py"
NAME = "json_lines.py:JsonLines"


@pytest.fixture
def stand_in(importable: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Steers the pretended training; runs from the folder of the example."""
    import stand_in

    folder = tmp_path / "control"
    folder.mkdir()
    (folder / "epoch_s").write_text("0")
    monkeypatch.setattr(stand_in, "FOLDER", folder)
    monkeypatch.chdir(EXAMPLE.parent)
    yield


def runs_of(file: Path) -> Any:
    return references.resolve(references.Reference(str(EXAMPLE), "runs_of"), where="", example="")(file)


def test_the_page_shows_the_example() -> None:
    assert f"```python\n{EXAMPLE.read_text()}```" in (DOCS / "custom_tracker.md").read_text()


def test_a_study_tells_it_live_and_again_from_its_records(
    stand_in: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from told_study import ToldStudy

    study = ToldStudy(
        tmp_path / "runs", f"jsonl:{tmp_path}/live", f"tracking.backend={NAME}", "search.trials=2"
    )
    study.search(2)
    study.finish()
    told = study.close()
    assert told.note is None and told.delivered and not told.refused, told.note
    (live,) = (tmp_path / "live").iterdir()
    trials = [run for run in runs_of(live) if "/cell/" not in run]
    references = ["baseline/zero_shot", "baseline/zero_step-" + trials[-1][-8:]]
    assert trials == ["study", "trial/0", "trial/1", *references]

    arguments = ["track", "told", "--storage", str(tmp_path / "runs"), "--json"]
    to = ["--to", f"jsonl:{tmp_path}/again", "--backend", NAME]
    assert execute([*arguments, *to]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["told"]["refused"] == 0
    assert "stands in the file twice" in shown.err, "what it cannot do"
    (again,) = (tmp_path / "again").iterdir()
    assert runs_of(again) == runs_of(live)

    assert execute([*arguments, "--to", f"jsonl:{tmp_path}/again"]) == 2
    assert "nothing here serves jsonl:" in " ".join(capsys.readouterr().err.split())


def test_the_page_of_runs_that_have_none_is_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(EXAMPLE.parent)
    assert execute(["ui", "demo", f"tracking.uri=jsonl:{tmp_path}", f"tracking.backend={NAME}"]) == 2
    shown = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "It has no page" in shown and "jsonl:" in shown


def test_a_job_refuses_a_place_that_means_something_only_here_and_takes_the_file_along(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from orchestrator.study import StudyError, load_study
    from orchestrator.submission import check_paths
    from orchestrator.submission.request import needed_files

    monkeypatch.chdir(EXAMPLE.parent)
    given = ["storage=/shared/runs", f"tracking.backend={NAME}"]
    with pytest.raises(StudyError, match=r"tracking\.uri"):
        check_paths(load_study("demo", [*given, "tracking.uri=jsonl:here"]))
    study = load_study("demo", [*given, "tracking.uri=jsonl:/shared/runs"])
    check_paths(study)
    assert needed_files("demo", study)["json_lines.py"] == EXAMPLE
