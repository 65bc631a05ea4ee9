"""What Optuna sees of records, first and as they change."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution, distribution_to_json
from optuna.trial import TrialState

from orchestrator.ledger import TrialRecord
from orchestrator.pages.optuna_study import OptunaStudy
from orchestrator.statistics.objectives import Aim

AT = "2026-11-21T12:00:00.000000+00:00"
LATER = "2026-11-21T12:05:00.000000+00:00"
LR = distribution_to_json(FloatDistribution(0.001, 0.1, log=True))


def record(number: int, state: Any, *means: float, **about: Any) -> TrialRecord:
    """A trial of two seeds that lie 0.1 apart."""
    epochs = [
        {"epoch": epoch, "mean": mean, "values": [mean - 0.05, mean + 0.05]}
        for epoch, mean in enumerate(means, start=1)
    ]
    fields: dict[str, Any] = {
        "params": {"lr": 0.01},
        "distributions": {"lr": LR},
        "cells": [{"key": f"k{number}{seed}", "split": "3-shot", "seed": str(seed)} for seed in (1, 2)],
        "epochs": epochs,
        "value": means[-1] if state == "complete" else None,
        "parameters": 3240,
        "started_at": AT,
        "ended_at": None if state == "running" else LATER,
        "attempts": 1,
    }
    return TrialRecord(number=number, state=state, **{**fields, **about})


@pytest.fixture
def study(tmp_path: Path) -> OptunaStudy:
    return OptunaStudy(tmp_path / "study.journal", "demo")


def shown(study: OptunaStudy) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="demo", storage=study.storage).trials


def test_trials_have_their_values_curves_states_and_attributes(study: OptunaStudy) -> None:
    complete, pruned = record(0, "complete", 0.4, 0.5), record(1, "pruned", 0.3)
    failed = record(2, "failed", error="diverged", epochs=[{"epoch": 1, "mean": math.nan}])
    assert study.update([complete, pruned, failed, record(3, "running", 0.2)]) == 4
    first, second, third, fourth = shown(study)
    assert (first.state, first.value, first.params) == (TrialState.COMPLETE, 0.5, {"lr": 0.01})
    assert first.intermediate_values == {1: 0.4, 2: 0.5} and first.duration is not None
    assert first.duration.total_seconds() == 300
    attributes = first.user_attrs
    assert attributes["mean"] == pytest.approx(0.5) and attributes["sem"] == pytest.approx(0.05)
    assert (attributes["n"], attributes["parameters"], attributes["state"]) == (2, 3240, "complete")
    assert (second.state, second.intermediate_values) == (TrialState.PRUNED, {1: 0.3})
    assert second.value == 0.3, "else its curve is not drawn"
    assert (third.state, third.user_attrs["error"]) == (TrialState.FAIL, "diverged")
    assert third.intermediate_values == {} and fourth.state == TrialState.RUNNING


def test_a_trial_that_runs_is_followed_to_its_end(study: OptunaStudy) -> None:
    study.update([record(0, "running")])
    assert study.update([record(0, "running", 0.4)]) == 1
    assert study.update([record(0, "running", 0.4)]) == 0, "nothing new"
    assert shown(study)[0].intermediate_values == {1: 0.4}
    assert study.update([record(0, "complete", 0.4, 0.6), record(1, "running")]) == 2
    first, second = shown(study)
    assert (first.state, first.value, first.intermediate_values) == (
        TrialState.COMPLETE,
        0.6,
        {1: 0.4, 2: 0.6},
    )
    assert first.user_attrs["mean"] == pytest.approx(0.6) and second.state == TrialState.RUNNING


def test_a_failed_trial_that_is_run_again_runs_again(study: OptunaStudy) -> None:
    study.update([record(0, "failed", 0.4), record(1, "complete", 0.7)])
    study.update([record(0, "running", attempts=2), record(1, "complete", 0.7)])
    first, second = shown(study)
    assert (first.state, second.value) == (TrialState.RUNNING, 0.7)
    assert [one.study_name for one in study.storage.get_all_studies()] == ["demo"]


def test_a_record_that_cannot_be_read_keeps_its_number(study: OptunaStudy) -> None:
    study.update([record(1, "complete", 0.5)])
    missing, found = shown(study)
    assert missing.state == TrialState.FAIL and "cannot be read" in missing.user_attrs["state"]
    assert (found.number, found.value) == (1, 0.5)


def test_a_complete_trial_without_validation_has_no_value_to_show(study: OptunaStudy) -> None:
    study.update([record(0, "complete", 0.5, value=None)])
    (only,) = shown(study)
    assert only.state == TrialState.FAIL and only.user_attrs["state"] == "complete"


def test_several_objectives_are_shown_with_their_directions(tmp_path: Path) -> None:
    aim = Aim.of(["accuracy", "-parameters"], ["parameters<=3000"])
    study = OptunaStudy(tmp_path / "two.journal", "demo", aim.objectives)
    violated = {"constraints": {"parameters<=3000": 240.0}}
    study.update([record(0, "complete", 0.5, value=[0.5, 3240.0], attributes=violated)])
    found = optuna.load_study(study_name="demo", storage=study.storage)
    assert [direction.name for direction in found.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert found.metric_names == ["accuracy", "parameters"]
    assert found.trials[0].values == [0.5, 3240.0]
    assert found.trials[0].system_attrs["constraints"] == [240.0]


def test_the_file_is_one_that_optuna_opens(study: OptunaStudy, tmp_path: Path) -> None:
    study.update([record(0, "complete", 0.5)])
    lines = (tmp_path / "study.journal").read_text().splitlines()
    assert all(json.loads(line) for line in lines)
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "study.journal"))
    again = optuna.load_study(study_name="demo", storage=optuna.storages.JournalStorage(backend))
    assert again.best_value == 0.5
