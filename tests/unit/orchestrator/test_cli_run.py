"""``orchestrator run`` in this process, with an engine that only pretends to train."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.main import execute
from orchestrator.ledger import Ledger
from orchestrator.study import load_plan

STAND_IN = Path(__file__).parents[2] / "integration" / "stand_in.py"
Run = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.yaml"
    path.write_text(
        "name: tiny\nseeds: [1, 2]\nspace:\n  - name: scale_init\nsettings: {source_cols: 32}\n"
        "recipe: {epochs: 2}\ngrouping: {mode: random}\n"
    )
    return path


@pytest.fixture
def run(file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command on the study; its exit code and JSON."""
    spec = importlib.util.spec_from_file_location("stand_in", STAND_IN)
    assert spec is not None and spec.loader is not None
    stand_in = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stand_in)
    plan = load_plan(str(file))

    def engine(*_: Any, **__: Any) -> Any:
        pretended = stand_in.Engine()
        pretended.manifest, pretended.fingerprint = plan.data.manifest, plan.fingerprint
        return pretended

    monkeypatch.setattr("orchestrator.workbench.ModelEngine", engine)
    monkeypatch.setenv("STAND_IN_EPOCH_S", "0")

    def execute_run(*arguments: str) -> tuple[int, dict[str, Any]]:
        capsys.readouterr()
        code = execute(["run", str(file), *arguments, "--json"])
        out = capsys.readouterr().out
        return code, json.loads(out) if out else {}

    return execute_run


def test_it_trains_the_first_point_and_keeps_its_cells(run: Run) -> None:
    code, found = run()
    assert (code, found["state"]) == (0, "complete")
    assert set(found["cells"]) == Ledger("runs").finished()
    assert len(found["cells"]) == 2


def test_a_second_run_trains_nothing_and_tells_the_same(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    _, first = run()
    log = Path("log")
    monkeypatch.setenv("STAND_IN_LOG", str(log))
    code, second = run()
    assert code == 0
    assert not log.exists()
    accuracies = [
        {k: c["metrics"]["accuracy"] for k, c in found["cells"].items()} for found in (first, second)
    ]
    assert accuracies[0] == accuracies[1]


def test_set_chooses_another_point(run: Run) -> None:
    _, first = run("--set", "scale_init=null")
    _, other = run("--set", "scale_init=0.02")
    assert not set(first["cells"]) & set(other["cells"])


def test_a_cell_is_trained_again_apart_from_its_record(run: Run) -> None:
    _, first = run()
    key = min(first["cells"])
    before = Ledger("runs").get(key)
    code, again = run("--cell", key[:8])
    assert code == 0
    assert list(again["cells"]) == [key]
    assert again["cells"][key]["same_as_recorded"] is True
    assert Ledger("runs").get(key) == before


def test_lines_are_for_people(run: Run, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["run", str(file)]) == 0
    captured = capsys.readouterr()
    assert "epoch 2:" in captured.err and "seed 1" in captured.err
    assert captured.out.count("validation") == 2


def test_cell_and_set_exclude_each_other(run: Run, file: Path) -> None:
    assert execute(["run", str(file), "--cell", "ab", "--set", "scale_init=null"]) == 2
