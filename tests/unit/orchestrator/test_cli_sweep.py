"""The commands that run a study, with a driver that only writes records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import orchestrator.driver
from orchestrator.cli.main import execute
from orchestrator.driver import Outcome
from orchestrator.ledger import StudyStore, TrialRecord
from orchestrator.ledger.lease import LeaseError
from orchestrator.study import StudyPlan
from orchestrator.work.shown import PhaseShown, Progress


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    path = tmp_path / "tiny.yaml"
    path.write_text("name: tiny\nspace:\n  - name: scale_init\nsettings: {source_cols: 32}\n")
    return path


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> list[StudyPlan]:
    """Plans that reached the driver, which records two complete trials of each."""
    plans: list[StudyPlan] = []

    def run(plan: StudyPlan, progress: Progress, **_: Any) -> Outcome:
        plans.append(plan)
        store = StudyStore(plan.study.storage, plan.study.name)
        store.save_study(plan.study.to_plain())
        progress(PhaseShown(name="search"))
        for number, (params, point) in enumerate(plan.space.points()):
            record = TrialRecord(number=number, params=params, point=point.to_dict())
            record.state, record.value = "complete", 0.1 * (number + 1)
            store.save_trial(record)
        return Outcome()

    monkeypatch.setattr(orchestrator.driver, "run_study", run)
    return plans


def ends_with(monkeypatch: pytest.MonkeyPatch, outcome: Outcome) -> None:
    def run(plan: StudyPlan, *_: Any, **__: Any) -> Outcome:
        StudyStore(plan.study.storage, plan.study.name).save_study(plan.study.to_plain())
        return outcome

    monkeypatch.setattr(orchestrator.driver, "run_study", run)


def test_sweep_prints_progress_on_stderr_and_results_on_stdout(
    file: Path, planned: list[StudyPlan], capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["sweep", str(file), "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["study"] == "tiny"
    assert "searching" in captured.err
    assert planned[0].trials == 2


@pytest.mark.parametrize(
    ("outcome", "code", "words"),
    [
        (Outcome(), 0, ""),
        (Outcome(state="interrupted", exit_code=143), 143, "The same command continues"),
        (Outcome(state="interrupted"), 130, "The same command continues"),
        (Outcome(state="failed", error="no slot is left"), 1, "no slot is left"),
        (Outcome(lost=(3,)), 1, ""),
        (Outcome(unscored={"3": "torn prompts"}), 1, "Not scored on the test images: trial 3: torn prompts"),
        (Outcome(note="12 records wait for the tracking server"), 0, "12 records wait"),
    ],
)
def test_exit_codes(
    outcome: Outcome,
    code: int,
    words: str,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ends_with(monkeypatch, outcome)
    assert execute(["sweep", str(file)]) == code
    assert words in capsys.readouterr().err


def test_a_failed_trial_fails_the_command(file: Path, planned: list[StudyPlan]) -> None:
    assert execute(["sweep", str(file)]) == 0
    store = StudyStore("runs", "tiny")
    store.save_trial(TrialRecord(number=9, state="failed", error="loss is NaN"))
    assert execute(["sweep", str(file)]) == 1


def test_what_another_start_would_not_change_is_no_failure_to_a_launcher_that_retries(
    file: Path, planned: list[StudyPlan], capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["sweep", str(file)]) == 0
    StudyStore("runs", "tiny").save_trial(TrialRecord(number=9, state="failed", error="loss is NaN"))
    assert execute(["sweep", "--final-is-ok", str(file)]) == 0
    assert "Exit code 0 instead of 1" in capsys.readouterr().err
    assert execute(["sweep", "--final-is-ok", str(file), "search.trails=4"]) == 2, "nothing has run"


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (Outcome(lost=(3,)), 1),
        (Outcome(unscored={"zero_shot": "torn prompts"}), 1),
        (Outcome(state="failed", error="no slot is left"), 1),
        (Outcome(state="interrupted", exit_code=143), 143),
    ],
)
def test_what_another_start_may_change_stays_a_failure(
    outcome: Outcome, code: int, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends_with(monkeypatch, outcome)
    execute(["sweep", "--final-is-ok", str(file)])
    StudyStore("runs", "tiny").save_trial(TrialRecord(number=9, state="failed", error="loss is NaN"))
    assert execute(["sweep", "--final-is-ok", str(file)]) == code


def test_a_study_that_runs_elsewhere_is_started_again_later(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: Any, **__: Any) -> Outcome:
        raise LeaseError("study 'tiny' is being run by process 7 on head-0")

    monkeypatch.setattr(orchestrator.driver, "run_study", run)
    assert execute(["sweep", "--final-is-ok", str(file)]) == 2


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("tracking.uri=./mlruns", ["tracking.uri", "./mlruns", "sqlite:///mlflow.db"]),
        ("storage=tiny.yaml/runs", ["storage", "tiny.yaml/runs"]),
        ("slots.count=4000", ["slots.count", "4000", "cores"]),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(
    override: str,
    words: list[str],
    file: Path,
    planned: list[StudyPlan],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "300")  # a path is not broken over two lines
    assert execute(["sweep", str(file), override]) == 2
    shown = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert all(word in shown for word in words), shown
    assert not planned


def test_confirm_on_further_seeds_is_a_study_of_the_finalists(file: Path, planned: list[StudyPlan]) -> None:
    assert execute(["sweep", str(file)]) == 0
    assert execute(["confirm", str(file), "--seeds", "4", "5"]) == 0
    first, further = planned
    assert further.study.name == "tiny-seeds-4-5"
    assert [s.label for s in further.study.seeds] == ["4", "5"]
    assert [s.label for s in first.study.seeds] == ["1", "2", "3"]
    # The best by validation comes first; its points are those that the search trained.
    best = [further.space.replay(params).settings.scale_init for params in further.first]
    assert best == [p.settings.scale_init for _, p in reversed(list(first.space.points()))]
    assert further.trials == further.study.finalists == 2


def test_confirm_says_by_its_exit_code_that_a_row_could_not_be_scored(
    file: Path, planned: list[StudyPlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert execute(["sweep", str(file)]) == 0
    for outcome, code in ((Outcome(), 0), (Outcome(unscored={"1": "torn"}), 1)):
        monkeypatch.setattr(orchestrator.driver, "confirm_study", lambda *_, **__: outcome)  # noqa: B023
        assert execute(["confirm", str(file)]) == code


def test_confirm_on_many_seeds_has_a_name_that_it_takes_again(file: Path, planned: list[StudyPlan]) -> None:
    assert execute(["sweep", str(file)]) == 0
    many = ",".join(map(str, range(4, 44)))
    for seeds in (many, many, f"{many},44"):
        assert execute(["confirm", str(file), "--seeds", seeds]) == 0
    names = [plan.study.name for plan in planned[1:]]
    assert names[0] == names[1] != names[2] and all(len(name) <= 100 for name in names)
    assert names[0].startswith("tiny-seeds-4-5-6")
    assert execute(["results", names[0]]) == 0 and execute(["status", names[0]]) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seeds", "2,4"], ["--seeds", "seed 2", "own"]),
        (["--seeds", "four"], ["--seeds", "'four'", "1,2,3"]),
        (["--seeds", "4,4"], ["--seeds", "twice"]),
        (["--seeds", "4", "--trial", "7"], ["--trial", "trial 7"]),
    ],
)
def test_confirm_refuses_seeds_and_trials_that_cannot_be(
    arguments: list[str],
    words: list[str],
    file: Path,
    planned: list[StudyPlan],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert execute(["sweep", str(file)]) == 0
    assert execute(["confirm", str(file), *arguments]) == 2
    shown = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert all(word in shown for word in words), shown


def test_cancel_refuses_a_trial_that_does_not_run(
    file: Path, planned: list[StudyPlan], capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["sweep", str(file)]) == 0
    assert execute(["cancel", str(file), "0"]) == 2
    assert "trial 0 is complete" in capsys.readouterr().err
    assert execute(["cancel", str(file), "99"]) == 2
    assert "no trial 99" in capsys.readouterr().err
