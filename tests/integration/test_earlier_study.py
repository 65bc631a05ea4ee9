"""A study that an earlier version began and was killed in is finished by this one, on a real Ray."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.driver import Options, run_study
from orchestrator.ledger import Ledger, StudyStore
from orchestrator.study import StudyPlan

pytestmark = pytest.mark.ray


def test_it_is_finished_and_no_cell_is_trained_twice(
    shared_ray: Path, first_records: Path, earlier_plan: Callable[[str], StudyPlan]
) -> None:
    plan, ledger = earlier_plan("fixed"), Ledger(first_records / "runs")
    store = StudyStore(first_records / "runs", "fixed")
    before = ledger.get_many(ledger.finished())
    states = [trial.state for trial in store.load_trials()]
    assert states == ["complete", "complete", "running"] and len(before) == 30

    outcome = run_study(plan, options=Options(tracked=False))

    assert (outcome.state, outcome.failed, outcome.lost, outcome.unscored) == ("complete", (), (), {})
    trials = StudyStore(first_records / "runs", "fixed").load_trials()
    assert [trial.state for trial in trials] == ["complete"] * 4
    trained = [key for run in store.load_invocations() for key in run.trained]
    assert len(trained) == len(set(trained)) and outcome.trained > 0
    assert not set(store.load_invocations()[-1].trained) & set(before)
    assert ledger.get_many(before) == before, "what was finished is as it was"
