"""What goes on, runs again or is left as it is when a study was interrupted, spent or raised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from trial_harness import KEYS

from orchestrator.driver import cancelling
from orchestrator.work.events import (
    CellFinished,
    Interrupted,
)
from orchestrator.work.shown import NoteShown


def test_when_a_budget_is_spent_no_trial_starts_and_those_in_work_finish(start: Any) -> None:
    spent: list[str] = []
    harness = start(trials=9, spent=lambda: next(iter(spent), None))
    harness.trials.launch()
    harness.trials.launch()
    spent.append("search.hours = 2")
    assert harness.trials.exhausted and harness.trials.launch() is None
    notes = [event.text for event in harness.shown if isinstance(event, NoteShown)]
    assert notes == ["The budget is spent (search.hours = 2): no new trial starts, 2 in work will finish."]
    harness.complete(0)
    assert harness.record(0).state == "complete" and not harness.queue.cancelled


def test_interrupted_trials_finish_even_if_a_budget_is_spent(start: Any) -> None:
    first = start(trials=9)
    first.trials.launch()
    first.trials.stop()
    first.trials.close()
    again = start(trials=9, spent=lambda: "search.hours = 2").recall()
    launched = again.trials.launch()
    assert launched is not None and launched["number"] == 0
    assert again.trials.launch() is None


def test_lost_trials_always_run_again(start: Any) -> None:
    first = start(trials=2)
    first.trials.launch()
    first.done(0, "lost", "3 workers died")
    assert first.record(0).state == "running" and first.rows.lost == [0]
    again = start(trials=2).recall()
    assert [again.trials.launch()["number"] for _ in range(2)] == [0, 1]


def test_an_objective_that_is_no_number_makes_a_failure(start: Any) -> None:
    harness = start()
    harness.trials.launch()
    harness.epochs(0, [float("nan")])
    harness.done(0)
    assert harness.record(0).state == "failed" and harness.record(0).attributes["failure"] == "nan"


def test_stopping_leaves_running_trials_to_be_taken_up_with_the_same_parameters(start: Any) -> None:
    first = start()
    first.trials.launch()
    first.trials.launch()
    first.complete(0)
    first.epochs(1, [0.1])
    first.trials.stop()
    first.trials.stop_early("trial-1")
    assert first.trials.exhausted and first.trials.launch() is None
    first.rows.take(Interrupted(item_id="trial-1", seconds={"total": 1.0}))
    first.trials.close()
    params = first.record(1).params
    again = start().recall()
    assert again.trials.launch()["number"] == 1
    record = again.record(1)
    assert (record.state, record.params, record.attempts) == ("running", params, 2)
    assert len(record.epochs) == 1 and record.device_seconds == 1.0


def test_an_interrupted_search_proposes_what_an_uninterrupted_one_would(start: Any, tmp_path: Path) -> None:
    whole = start(trials=8)
    for number in range(8):
        whole.trials.launch()
        whole.complete(number, 0.1 * number)
    expected = [whole.record(number).params for number in range(8)]
    for file in (tmp_path / "runs").rglob("trials/*.json"):
        file.unlink()
    for begin, end in ((0, 3), (3, 6), (6, 8)):
        part = start(trials=8).recall()
        for number in range(begin, end):
            assert part.trials.launch()["number"] == number
            part.complete(number, 0.1 * number)
    assert [part.record(number).params for number in range(8)] == expected


def test_a_complete_trial_that_lost_a_cell_runs_again(start: Any, tmp_path: Path) -> None:
    first = start(trials=1)
    first.trials.launch()
    first.complete(0)
    assert start(trials=1).recall().trials.exhausted
    (tmp_path / "runs/cells/k2-0/record.json").write_text("{ torn")
    (tmp_path / "runs/cells/k2-0/record.copy.json").write_text("{ torn")
    assert start(trials=1).recall().trials.launch()["number"] == 0


def test_a_complete_trial_that_lost_a_cell_is_not_pruned_while_it_is_mended(
    start: Any, tmp_path: Path
) -> None:
    first = start(trials=2)
    for number in range(2):
        first.trials.launch()
        first.complete(number)
    (tmp_path / "runs/cells/k2-0/record.json").unlink()
    again = start(trials=3).recall()
    for number in (0, 2):
        assert again.trials.launch()["number"] == number
        again.cells(number)
        again.trials.stop_early(f"trial-{number}")
        again.trials.ended(number, "pruned", {1: 0.4})
    assert again.queue.cancelled == ["trial-2"]
    again.epochs(0, [0.4, 0.5])
    again.done(0)
    assert again.record(0).state == "complete"
    told = again.trials._proposals._study.get_trials(deepcopy=False)
    assert [trial.state.name for trial in told if trial.intermediate_values.get(2) == 0.5] == ["COMPLETE"] * 2


def test_raising_the_budget_goes_on_with_the_next_number(start: Any) -> None:
    first = start(trials=1)
    first.trials.launch()
    first.complete(0)
    more = start(trials=2).recall()
    assert more.trials.launch()["number"] == 1


def test_what_was_trained_and_what_was_found_is_told_apart(start: Any) -> None:
    harness = start()
    harness.trials.launch()
    harness.cells(0, "finished")
    harness.trials.launch()
    harness.cells(1)
    told: dict[str, Any] = {"metrics": {}, "parameters": 10, "seconds": {}}
    harness.rows.take(CellFinished(item_id="trial-1", key="k1-1", at="", **told))
    assert harness.invocation.reused == [f"{key}-0" for key in KEYS]
    assert harness.invocation.trained == ["k1-1"]


def test_only_a_running_trial_can_be_cancelled_from_outside(start: Any) -> None:
    harness = start()
    harness.trials.launch()
    cancelling.request_cancel(harness.store, 0)
    assert cancelling.requested(harness.store) == {0: ["0.0"]}
    assert harness.trials.cancel(0) and harness.queue.cancelled == ["trial-0"]
    cancelling.clear(harness.store, ["0.0"])
    assert cancelling.requested(harness.store) == {}
    harness.done(0, "cancelled")
    with pytest.raises(ValueError, match="trial 0 is pruned"):
        cancelling.request_cancel(harness.store, 0)
    with pytest.raises(ValueError, match="no trial 7"):
        cancelling.request_cancel(harness.store, 7)
    assert not harness.trials.cancel(7)
