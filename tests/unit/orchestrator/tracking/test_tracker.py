"""What is told of a trial, its cells and how they end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.tracking import Tracker
from orchestrator.tracking.narration import Narration
from orchestrator.tracking.row import TrackedRow
from orchestrator.work.events import CellFailure, CellFinished, CellsKnown


def test_a_trial_becomes_a_run_with_a_child_per_cell(tracker: Tracker, server: Any, news: Any) -> None:
    tracker.trial_started(3, news.POINT, started_at=news.AT)
    tracker.event(3, news.cells())
    tracker.event(3, news.epoch(1, 0.4, 0.6))
    told = {"metrics": {}, "parameters": 99, "seconds": {"train": 2.0}}
    tracker.event(3, CellFinished(item_id="", key="k1", at=news.AT, **told))
    tracker.trial_ended(3, "complete", device_seconds=4.5, parameters=99, share=0.001)
    assert tracker.flush(5)
    begin = server.of("trial/3", "start")[0]
    assert (
        begin["params"]["settings.prompt_length"] == "4"
        and begin["params"]["grouping.probe.prompt_length"] == "4"
    )
    assert begin["tags"]["study"] == "demo" and begin["tags"]["trial"] == "3"
    child = server.of("trial/3/cell/k2", "start")[0]
    assert (child["parent"], child["name"]) == ("trial/3", "seed 2 · 3-shot")
    assert child["tags"]["ledger"] == "/c/k2" and child["tags"]["cell"] == "k2"
    assert child["tags"]["dataset_manifest"] == "d" * 32 and "reused_from" not in child["tags"]
    means = server.metrics("trial/3")
    assert means["val_accuracy_mean"] == [(1, 0.5)] and means["val_accuracy_n"] == [(1, 2.0)]
    assert means["val_accuracy_std"][0][1] == pytest.approx(0.1414, rel=1e-3)
    assert means["parameters"][0] == (0, 99.0) and means["device_seconds"] == [(0, 4.5)]
    curves = server.metrics("trial/3/cell/k2")
    assert curves["val_accuracy"] == curves["val_accuracy/Real World"] == [(1, 0.6)]
    assert curves["train_loss"] == [(1, 1.0)] and "val_nll" not in curves
    assert [o["status"] for o in server.of("trial/3", "end")] == ["FINISHED"]
    assert [o["status"] for o in server.of("trial/3/cell/k1", "end")] == ["FINISHED"]


@pytest.mark.parametrize("goes_on", [True, False])
def test_a_trial_in_stages_has_one_mean_per_epoch(
    tracker: Tracker, server: Any, news: Any, goes_on: bool
) -> None:
    """That of its last stage, whether it was stopped there or has all its seeds."""
    tracker.trial_started(3, news.POINT, started_at=news.AT)
    both = news.cells()
    tracker.event(3, CellsKnown(item_id="", cells=both.cells[:1]), stage=True)
    first = news.epoch(1, 0.4, 0.6)
    tracker.event(3, replace(first, reports={"k1": first.reports["k1"]}, values=[0.4]), stage=True)
    if goes_on:
        tracker.event(3, both)
        tracker.event(3, first)
    tracker.trial_ended(3, "complete" if goes_on else "pruned", device_seconds=4.5)
    assert tracker.flush(5)
    means = server.metrics("trial/3")
    assert means["val_accuracy_mean"] == [(1, 0.5 if goes_on else 0.4)]
    assert means["val_accuracy_n"] == [(1, 2.0 if goes_on else 1.0)]
    assert set(server.metrics("trial/3/cell/k1")["val_accuracy"]) == {(1, 0.4)}, "each cell has its curve"


def test_a_trial_has_the_parameters_by_which_it_differs_and_a_row_of_a_comparison_all(news: Any) -> None:
    fixed = {"method": "mmap", "recipe.epochs": 2, "grouping.mode": "random", "settings.source_cols": 16}
    narration = Narration(study="demo", fixed=fixed)

    def params(tags: dict[str, Any]) -> dict[str, str]:
        row = TrackedRow(trial=0, point=news.POINT, started_at=news.AT, tags=tags)
        return narration.started(row)[0]["params"]

    assert params({}) == {
        "settings.prompt_length": "4",
        "settings.source_rows": "2",
        "settings.scale_init": "null",
        "recipe.lr": "0.0035",
        "grouping.mode": "gradient",
        "grouping.probe.prompt_length": "4",
    }
    assert params({"kind": "column"}).items() >= {"method": "mmap", "recipe.epochs": "2"}.items()


def test_a_reused_cell_says_where_it_came_from(tracker: Tracker, server: Any, news: Any) -> None:
    origin = {"study": "earlier", "trial": 7, "invocation": "x"}
    for trial in (0, 1):
        tracker.trial_started(trial, news.POINT)
    tracker.event(0, news.cells(status="finished", origin=origin))
    tracker.event(0, news.epoch(1, 0.4, 0.6))
    tracker.event(1, news.cells(status="finished", origin={**origin, "study": "demo", "trial": 1}))
    assert tracker.flush(5)
    reused = server.of("trial/0/cell/k1", "start")[0]
    assert reused["tags"]["reused_from"] == "study earlier, trial 7"
    assert server.of("trial/0/cell/k1", "end") and server.metrics("trial/0/cell/k1")["val_accuracy"]
    assert "reused_from" not in server.of("trial/1/cell/k1", "start")[0]["tags"], "its own cell, seen again"


@pytest.mark.parametrize(
    ("state", "status"), [("pruned", "FINISHED"), ("failed", "FAILED"), ("interrupted", "KILLED")]
)
def test_how_a_trial_ended(tracker: Tracker, server: Any, state: str, status: str, news: Any) -> None:
    tracker.trial_started(0, news.POINT)
    tracker.event(0, news.cells())
    tracker.event(0, CellFailure(item_id="", key="k1", error="diverged", failure="nan"))
    tracker.trial_ended(0, state, error="diverged")
    assert tracker.flush(5)
    assert [o["status"] for o in server.of("trial/0", "end")] == [status]
    assert [o["status"] for o in server.of("trial/0/cell/k1", "end")] == ["FAILED"]
    assert [o["status"] for o in server.of("trial/0/cell/k2", "end")] == [status]
    for run in ("trial/0", "trial/0/cell/k2"):
        assert server.of(run, "log")[-1]["tags"]["state"] == state, "a status says less than that"


def test_no_secret_gets_into_a_tag_or_a_message(
    tracker: Tracker, server: Any, monkeypatch: pytest.MonkeyPatch, news: Any
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2hunter2")
    tracker.trial_started(0, news.POINT)
    tracker.event(0, news.cells())
    error = "s3://key:secret@bucket hunter2hunter2"
    tracker.event(0, CellFailure(item_id="", key="k1", error=error, failure="raised"))
    tracker.trial_ended(0, "failed", error="s3://key:secret@bucket hunter2hunter2")
    assert tracker.flush(5)
    tags = [tag for operation in server.operations for tag in operation.get("tags", {}).values()]
    assert tags.count("s3://bucket ***") == 2
    assert not [tag for tag in tags if "secret@" in tag or "hunter2" in tag]


def test_test_numbers_of_finalists(tracker: Tracker, server: Any, news: Any) -> None:
    cells = [cell.to_dict() for cell in news.cells().cells]
    tracker.trial_tested(0, cells, {"k1": news.score(0.3), "k2": news.score(0.5)})
    assert tracker.flush(5)
    assert server.metrics("trial/0/cell/k1") == {"test_accuracy": [(0, 0.3)], "test_accuracy/a": [(0, 0.3)]}
    assert server.metrics("trial/0")["test_accuracy_mean"] == [(0, 0.4)]
