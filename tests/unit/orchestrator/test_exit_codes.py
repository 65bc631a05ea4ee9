"""What every command returns to a script: 0 done, 1 failed, 2 bad input, 130 and 143 interrupted."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

import orchestrator.driver
import orchestrator.driver.compare
from orchestrator.cli import console, tree
from orchestrator.cli.main import execute
from orchestrator.driver import Outcome
from orchestrator.ledger import StudyStore, TrialRecord
from orchestrator.reports import comparison
from orchestrator.study import load_plan

NOBODY = "http://127.0.0.1:1"
"""A dashboard that does not answer."""


@pytest.fixture(autouse=True)
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyStore:
    """A study file ``tiny.yaml``, which was run, and ``new.yaml``, which was not."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name in ("tiny", "new"):
        text = f"name: {name}\nspace: [{{name: scale_init}}]\nsettings: {{source_cols: 32}}\n"
        Path(f"{name}.yaml").write_text(text)
    plan = load_plan("tiny.yaml")
    store = StudyStore(plan.study.storage, "tiny")
    store.save_study(plan.study.to_plain())
    point = plan.space.replay(plan.first[0])
    store.save_trial(
        TrialRecord(number=0, state="complete", value=0.4, params=dict(plan.first[0]), point=point.to_dict())
    )
    return store


def commands() -> Iterable[str]:
    """Every command that can be typed."""
    for path, command in tree.commands(tree.root()).items():
        if not hasattr(command, "commands"):
            yield path.removeprefix("orchestrator ")


DONE = [
    "plan tiny.yaml",
    "params",
    "params --method mmap --json",
    "status tiny",
    "results tiny",
    "results tiny --json",
    "results tiny --format md",
    "results tiny --format csv",
    "results tiny --format tex",
    "clean",
    "clean --yes",
    "ui tiny.yaml tracking.uri=http://mlflow.example:5000",
    "schema",
    "--help",
]
WRONG = {
    "plan": "plan tiny.yaml search.trails=3",
    "profile": "profile nothing",
    "params": "params --method nothing",
    "sweep": "sweep nothing.yaml",
    "compare": "compare symbols --methods nothing",
    "run": "run tiny.yaml --set scale_init=7",
    "status": "status new.yaml",
    "results": "results tiny --format nothing",
    "confirm": "confirm tiny --seeds four",
    "cancel": "cancel tiny 99",
    "track": "track new.yaml",
    "export": "export tiny --format nothing --out x",
    "predict": "predict nothing image.jpg",
    "transfer": "transfer tiny",
    "audit": "audit nothing",
    "report": "report nothing",
    "selftest": "selftest nothing",
    "notify test": "notify test tiny",
    "ui": "ui nothing.yaml",
    "serve": "serve nothing",
    "submit": f"submit tiny.yaml --address {NOBODY}",
    "jobs": f"jobs --address {NOBODY}",
    "logs": f"logs tiny --address {NOBODY}",
    "stop": f"stop tiny --address {NOBODY}",
    "clean": "clean --only nothing",
    "schema": "schema nothing",
    "data check": "data check nothing",
    "data prepare": "data prepare nothing",
    "data classes": "data classes nothing",
    "data draws export": "data draws export nothing lists",
    "data draws import": "data draws import nothing lists mine",
    "cluster check": "cluster check nothing.yaml",
}


@pytest.mark.parametrize("line", DONE)
def test_done(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(line.split()) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    assert out.strip()
    if line.endswith("--json"):
        json.loads(out)


def test_every_command_is_in_the_table() -> None:
    assert set(WRONG) == set(commands())


@pytest.mark.parametrize("line", [*WRONG.values(), "results tiny --json --format md", "nothing"])
def test_bad_input_is_2_with_an_error_and_no_result(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(line.split()) == 2
    captured = capsys.readouterr()
    assert "Error" in captured.err and not captured.out and "Traceback" not in captured.err


@pytest.mark.parametrize("command", commands())
def test_an_option_that_no_command_has_is_2(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute([*command.split(), "--nonsense"]) == 2
    assert "--nonsense" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (Outcome(), 0),
        (Outcome(lost=(3,)), 1),
        (Outcome(unscored={"3": "torn"}), 1),
        (Outcome(state="failed", error="no slot is left"), 1),
        (Outcome(state="interrupted"), 130),
        (Outcome(state="interrupted", exit_code=143), 143),
    ],
    ids=["complete", "lost", "unscored", "failed", "Ctrl-C", "SIGTERM"],
)
@pytest.mark.parametrize("command", ["sweep", "confirm", "compare"])
def test_a_run_returns_how_it_ended(
    command: str, outcome: Outcome, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place, name in (
        (orchestrator.driver, "run_study"),
        (orchestrator.driver, "confirm_study"),
        (orchestrator.driver.compare, "run_comparison"),
    ):
        monkeypatch.setattr(place, name, lambda *_, **__: outcome)
    monkeypatch.setattr(comparison, "write_report", lambda *_: [])
    study = "symbols" if command == "compare" else "tiny.yaml"
    incomplete = command == "compare"  # no column has a result
    assert execute([command, study]) == (code or int(incomplete))


def test_ctrl_c_before_anything_began_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(console, "show", interrupt)
    for line in ("plan tiny.yaml", "results tiny", "params", "clean"):
        assert execute(line.split()) == 130, line
