"""What happens around Ray: nothing to do, refusals, and what a session would be asked to do."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mmap_model.cells import Point
from mmap_model.errors import InputError
from orchestrator.driver import Outcome, confirm_study, run_study, study_agenda
from orchestrator.driver.session import Session
from orchestrator.driver.todo import Todo
from orchestrator.ledger import Invocation, Ledger, StudyStore, TrialRecord
from orchestrator.ledger.cell_files import path_of
from orchestrator.ledger.cells import WEIGHTS
from orchestrator.rows.reference import reference_points
from orchestrator.study import StudyPlan, load_plan
from orchestrator.work.shown import NoteShown


@pytest.fixture
def plan(tmp_path: Path) -> StudyPlan:
    return load_plan("demo", overrides(tmp_path))


def overrides(folder: Path, trials: int = 2) -> list[str]:
    return [f"storage={folder / 'runs'}", "name=unit", f"search.trials={trials}"]


def finish(plan: StudyPlan) -> StudyStore:
    """Records of a finished study, as a driver leaves them."""
    store, ledger = StudyStore(plan.study.storage, "unit"), Ledger(plan.study.storage)
    store.save_study(plan.study.to_plain())
    rows: dict[str, list[dict[str, Any]]] = {}
    for name in ("0", "1", "zero_shot", "zero_step"):
        rows[name] = [
            {"key": f"{name}-{i}", "split": "6-shot", "seed": str(i), "parameters": 1} for i in "12"
        ]
        for cell in rows[name]:
            ledger.commit(cell["key"], {"metrics": {"accuracy": 0.5}}, {})
            ledger.commit_test(cell["key"], {"metrics": {"accuracy": 0.5}}, {})
    points = [point.to_dict() for point in points_of(plan, 2)]
    trials = [
        TrialRecord(number=number, state="complete", value=0.5, point=points[number], cells=rows[str(number)])
        for number in (0, 1)
    ]
    for trial in trials:
        store.save_trial(trial)
    for name, point in reference_points(plan, trials).items():
        store.save_baseline(name, {"state": "complete", "point": point.to_dict(), "cells": rows[name]})
    return store


def points_of(plan: StudyPlan, count: int) -> list[Point]:
    first = plan.space.replay(plan.space.preset())
    return [replace(first, recipe=replace(first.recipe, lr=0.01 * (1 + i))) for i in range(count)]


def test_a_finished_study_runs_again_in_no_time_without_importing_ray_torch_or_mlflow(
    plan: StudyPlan, tmp_path: Path
) -> None:
    store = finish(plan)
    code = (
        "import sys\n"
        "from orchestrator.driver import run_study\n"
        "from orchestrator.study import load_plan\n"
        f"print(run_study(load_plan('demo', {overrides(tmp_path)!r})).state)\n"
        "print(sorted({'ray', 'torch', 'mlflow'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split("\n")[:2] == ["complete", "[]"]
    (invocation,) = store.load_invocations()
    assert (invocation.outcome, invocation.trained) == ("complete", [])


def test_a_study_that_changed_is_refused(plan: StudyPlan, tmp_path: Path) -> None:
    finish(plan)
    changed = load_plan("demo", [*overrides(tmp_path), "search.seed=99"])
    with pytest.raises(InputError, match=r"search\.seed"):
        run_study(changed)


def test_a_second_driver_is_refused_and_told_which_one_runs(plan: StudyPlan) -> None:
    store = finish(plan)
    with store.driver_lease(invocation="the-first", interval=0.1) as lease:
        lease.take()  # type: ignore[attr-defined]
        with pytest.raises(InputError, match="the-first"):
            run_study(plan)


def test_confirming_what_is_not_complete_is_refused(plan: StudyPlan) -> None:
    with pytest.raises(InputError, match="no study"):
        confirm_study(plan)
    finish(plan)
    with pytest.raises(InputError, match="trial 7 is unknown"):
        confirm_study(plan, numbers=[7])
    assert confirm_study(plan, numbers=[1]) == Outcome(), "it was scored already"


def test_confirm_mends_what_is_broken_though_it_is_scored(plan: StudyPlan, asked: None) -> None:
    finish(plan)
    ledger = Ledger(plan.study.storage)
    ledger.commit("more", {"metrics": {"accuracy": 0.5}}, {WEIGHTS: b"w"})
    ledger.commit_test("more", {"metrics": {"accuracy": 0.5}}, {})
    store = StudyStore(plan.study.storage, "unit")
    trial = store.load_trial(1)
    assert trial is not None
    trial.cells[0]["key"] = "more"
    store.save_trial(trial)
    assert confirm_study(plan) == Outcome()
    record = ledger.get("more")
    assert record is not None
    ledger.storage.write(path_of("more", WEIGHTS, record["files"][WEIGHTS]), b"torn")
    with pytest.raises(Asked) as caught:
        confirm_study(plan)
    assert [name for name, _ in caught.value.todo.confirm] == [1]
    assert ledger.get("more") == record, "the worker sets it aside"


def test_confirming_where_nothing_is_complete_is_refused(plan: StudyPlan) -> None:
    store = StudyStore(plan.study.storage, "unit")
    store.save_study(plan.study.to_plain())
    store.save_trial(TrialRecord(number=0, state="failed", point=points_of(plan, 1)[0].to_dict()))
    with pytest.raises(InputError, match=r"none of the 1 trials .*(?s:.*)orchestrator status unit"):
        confirm_study(plan)
    finish(plan)
    none = replace(plan, study=plan.study.model_copy(update={"finalists": 0}))
    with pytest.raises(InputError, match=r"finalists: 0(?s:.*)confirm unit .*--trial N"):
        confirm_study(none)
    assert confirm_study(plan) == Outcome(), "everything is scored"


def test_a_sweep_trains_its_finalists_again_whose_weights_another_study_dropped(
    plan: StudyPlan, asked: None
) -> None:
    finish(plan)
    Ledger(plan.study.storage).storage.delete("cells/0-1/test.json")
    todo = todo_of(plan)
    assert todo.retrain and [name for name, _ in todo.confirm] == [0]
    (invocation,) = StudyStore(plan.study.storage, "unit").load_invocations()
    assert invocation.scoring == ["0-1", "0-2"], "nobody drops their weights meanwhile"


def test_confirming_what_has_no_weights_any_more_says_how_to_get_them_back(
    plan: StudyPlan, asked: None
) -> None:
    store, ledger = finish(plan), Ledger(plan.study.storage)
    ledger.commit("w", {"metrics": {"accuracy": 0.5}}, {WEIGHTS: b"w"})
    ledger.drop("w", WEIGHTS)
    trial = store.load_trial(1)
    assert trial is not None
    trial.cells = [{"key": "w", "split": "6-shot", "seed": "1", "parameters": 1}]
    store.save_trial(trial)
    with pytest.raises(InputError, match=r"dropped on .*(?s:.*)confirm unit --storage .* --trial 1"):
        confirm_study(plan, numbers=[1])
    with pytest.raises(Asked) as caught:
        confirm_study(plan, numbers=[1], retrain=True)
    assert caught.value.todo.retrain


class Asked(Exception):
    """Ends a session before it starts, with what it was to do."""

    def __init__(self, todo: Todo) -> None:
        self.todo = todo


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(session: Session, todo: Todo) -> None:
        raise Asked(todo)

    monkeypatch.setattr(study_agenda, "StudyAgenda", refuse)


def todo_of(plan: StudyPlan, **options: Any) -> Todo:
    with pytest.raises(Asked) as caught:
        run_study(plan, **options)
    return caught.value.todo


def test_a_new_study_has_everything_to_do(plan: StudyPlan, asked: None) -> None:
    todo = todo_of(plan)
    assert (todo.new, set(todo.baselines), todo.again) == (2, {"zero_shot"}, frozenset())


def test_only_what_is_missing_is_done(plan: StudyPlan, tmp_path: Path, asked: None) -> None:
    finish(plan)
    (tmp_path / "runs/cells/zero_shot-1/record.json").unlink()
    (tmp_path / "runs/cells/1-2/record.json").write_text("torn")
    (tmp_path / "runs/cells/1-2/record.copy.json").write_text("torn")
    (tmp_path / "runs/cells/0-1/test.json").unlink()
    todo = todo_of(plan)
    assert (todo.new, set(todo.baselines), todo.again) == (0, {"zero_shot"}, frozenset({1}))
    assert 0 in [name for name, _ in todo.confirm]


def test_a_raised_budget_leaves_the_rest_to_do(plan: StudyPlan, tmp_path: Path, asked: None) -> None:
    finish(plan)
    todo = todo_of(load_plan("demo", overrides(tmp_path, trials=5)))
    assert (todo.new, todo.baselines, todo.again, todo.confirm) == (3, {}, frozenset(), ())


def test_another_best_trial_wants_its_own_zero_step_row(plan: StudyPlan, asked: None) -> None:
    store = finish(plan)
    better = points_of(plan, 3)[2].to_dict()
    keys = store.load_trials()[1].cells
    store.save_trial(TrialRecord(number=2, state="complete", value=0.9, point=better, cells=keys))
    assert {name: point.to_dict() for name, point in todo_of(plan).baselines.items()} == {"zero_step": better}


def test_failed_trials_are_work_only_if_wanted(plan: StudyPlan, asked: None) -> None:
    store = finish(plan)
    store.save_trial(TrialRecord(number=1, state="failed", point=points_of(plan, 2)[1].to_dict()))
    assert run_study(plan).state == "complete"
    assert todo_of(plan, retry_failed=True).again == {1}


def test_a_session_that_breaks_leaves_its_invocation_failed_and_the_study_free(
    plan: StudyPlan, asked: None
) -> None:
    todo_of(plan)
    store = StudyStore(plan.study.storage, "unit")
    assert store.load_invocations()[-1].outcome == "failed"
    todo_of(plan)


def test_the_next_run_says_that_the_last_one_was_killed(plan: StudyPlan) -> None:
    store = finish(plan)
    killed = Invocation(command="sweep")
    store.save_invocation(killed)
    told: list[str] = []
    run_study(plan, lambda event: told.append(event.text if isinstance(event, NoteShown) else ""))
    assert [line for line in told if "was killed" in line and killed.started_at[:19] in line]
    told.clear()
    run_study(plan, lambda event: told.append(event.text if isinstance(event, NoteShown) else ""))
    assert not [line for line in told if "was killed" in line]


def test_a_damaged_record_of_a_test_evaluation_is_named(plan: StudyPlan) -> None:
    store = finish(plan)
    store.record_test_evaluation(reason="a test", keys=["k"])
    (name,) = store.storage.names(f"studies/{store.name}/looks")
    store.storage.write(f"studies/{store.name}/looks/{name}", b"torn")
    told: list[str] = []
    run_study(plan, lambda event: told.append(event.text if isinstance(event, NoteShown) else ""))
    assert [line for line in told if line.startswith("Damaged record") and name in line], told
