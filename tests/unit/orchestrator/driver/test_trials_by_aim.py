"""Trials of several objectives and constraints: what is recorded, and when the sampler learns of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from trial_harness import Harness

from orchestrator.driver.trials import Trials
from orchestrator.ledger.trial_record import CONSTRAINTS, SAMPLER
from orchestrator.rows.rows import Rows
from orchestrator.search.proposals import Proposals
from orchestrator.search.samplers import Samplers
from orchestrator.study import load_plan
from orchestrator.tracking.tracker import NoTracker

SEVERAL = "search.objectives=[accuracy, -parameters, nll]"
BOUND = "search.constraints=['parameters<=9']"


class Aimed(Harness):
    """With the sampler and the aim of its study."""

    def __init__(self, plan: Any, **options: Any) -> None:
        super().__init__(plan, slots=1, **options)
        search = plan.study.search
        self.rows = Rows(plan, self.queue, NoTracker(), self.shown.append, self.invocation)
        self.proposals = Proposals(
            plan.space.suggest,
            samplers=Samplers(name=search.sampler, options=search.sampler_options, seed=search.seed),
            directions=search.aim.directions,
            first=plan.first,
        )
        self.trials = Trials(self.rows, self.proposals, self.store, slots=lambda: 1, **options)

    def work(self, number: int, mean: float = 0.5, **metrics: Any) -> None:
        """The work of a trial, without Tune."""
        self.cells(number)
        self.epochs(number, [mean - 0.1, mean])
        self.commit(number, accuracy=mean, **metrics)
        self.done(number)

    def followed(self, number: int, mean: float = 0.5) -> None:
        self.trials.ended(number, "complete", {1: mean - 0.1, 2: mean})


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., Aimed]:
    def make(*overrides: str, trials: int = 6) -> Aimed:
        given = [
            f"storage={tmp_path / 'runs'}",
            f"search.trials={trials}",
            "search.scheduler=none",
            "name=unit",
        ]
        return Aimed(load_plan("demo", [*given, *overrides]))

    return make


def test_a_record_holds_the_values_of_all_objectives_in_their_order(start: Any) -> None:
    harness = start(SEVERAL)
    harness.trials.launch()
    harness.work(0, nll=0.7)
    record = harness.record(0)
    assert (record.state, record.value, record.accuracy) == ("complete", [0.5, 10.0, pytest.approx(0.7)], 0.5)
    assert CONSTRAINTS not in record.attributes and not record.violated


def test_a_record_of_one_objective_is_as_it_always_was(start: Any) -> None:
    harness = start()
    harness.trials.launch()
    harness.work(0)
    record = harness.record(0)
    assert record.value == 0.5 and not {SAMPLER, CONSTRAINTS} & set(record.attributes)


def test_a_trial_that_violates_a_constraint_is_complete_and_marked(start: Any) -> None:
    harness = start(BOUND)
    harness.trials.launch()
    harness.work(0)
    record = harness.record(0)
    assert (record.state, record.value) == ("complete", 0.5)
    assert record.attributes[CONSTRAINTS] == {"parameters<=9": 1.0} and record.violated == ["parameters<=9"]


def test_an_objective_that_no_cell_recorded_fails_the_trial(start: Any) -> None:
    harness = start(SEVERAL)
    harness.trials.launch()
    harness.work(0)
    record = harness.record(0)
    assert (record.state, record.value) == ("failed", None) and "objective" in record.error
    harness.followed(0)
    assert harness.trials.launch()["number"] == 1


def test_no_trial_is_proposed_before_the_sampler_knows_what_the_last_one_came_to(start: Any) -> None:
    """Tune may hear of an end before the driver has recorded it, or after."""
    harness = start(SEVERAL)
    harness.trials.launch_in_background(lambda: 0)
    harness.trials.launch_wanted(0.0)
    assert harness.trials.launch()["number"] == 0
    harness.followed(0)
    harness.trials.launch_wanted(0.0)
    assert not harness.trials.room(0) and "trial-1" not in harness.queue.submitted
    waiting = threading.Thread(target=harness.trials.launch_wanted, args=(60.0,))
    waiting.start()
    harness.work(0, nll=0.7)
    waiting.join(30.0)
    assert "trial-1" in harness.queue.submitted


@pytest.mark.parametrize("sampler", ["nsga2", "tpe"])
def test_a_resumed_study_of_two_objectives_proposes_what_it_would_have(
    start: Any, tmp_path: Path, sampler: str
) -> None:
    options = "{population_size: 2}" if sampler == "nsga2" else "{n_startup_trials: 2}"
    # nsga2 needs a space without conditions
    space = "space=[{name: scale_init, choices: [null, 0.02]}, {name: learning_rate}]"
    search = (
        f"search={{objectives: [accuracy, nll], sampler: {sampler}, sampler_options: {options}, trials: 6}}"
    )
    shape = "settings={prompt_length: 2, source_rows: 2, source_cols: 4}"

    def run(killed: bool) -> list[dict[str, Any]]:
        place = f"storage={tmp_path / str(killed)}"
        harness = start(space, shape, search, place)
        for number in range(6):
            assert harness.trials.launch()["number"] == number
            if killed and number % 2:
                harness = start(space, shape, search, place).recall()
                assert harness.trials.launch()["number"] == number
            harness.work(number, 0.5 + 0.01 * number, nll=0.7 - 0.1 * (number % 3))
            harness.followed(number, 0.5 + 0.01 * number)
            if killed and number == 2:
                harness = start(space, shape, search, place).recall()
        return [harness.record(number).params for number in range(6)]

    assert run(killed=True) == run(killed=False)
