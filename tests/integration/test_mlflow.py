"""The tracker against real MLflow: a sqlite store, and a server that is killed in the middle."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.tracking import Connection, Delivery, Tracker, check_tracking
from orchestrator.tracking import operations as op
from orchestrator.tracking.narration import Narration
from orchestrator.tracking.operations import File
from orchestrator.tracking.process import BackendProcess
from orchestrator.work.events import CellFinished, CellsKnown, CellState, EpochReached

TASKS = ("clipart", "sketch")
AT = "2026-11-21T12:10:00.000000+00:00"


def point(trial: int) -> dict[str, Any]:
    return {
        "method": "mmap",
        "settings": {"prompt_length": 4, "source_rows": 2, "source_cols": 16},
        "recipe": {"lr": 0.001 * (trial + 1), "epochs": 2, "template": "a photo of a {}."},
    }


def tell(tracker: Tracker, trial: int, *, status: str = "new", epochs: int = 2) -> None:
    """A whole trial of two seeds, as a driver tells it."""
    keys = [f"{trial:02d}{seed}" for seed in (1, 2)]
    cells = [
        CellState(
            key=key,
            split="3-shot",
            seed=key[-1],
            partition=[[0], [1]],
            parameters=1104,
            status=status,
            origin={"study": "first", "trial": trial, "invocation": "i"} if status == "finished" else None,
        )
        for key in keys
    ]
    tracker.trial_started(trial, point(trial), started_at=AT)
    tracker.event(trial, CellsKnown(item_id="", cells=cells))
    for epoch in range(1, epochs + 1):
        reports = {
            key: {
                "epoch": epoch,
                "at": f"2026-11-21T12:00:{epoch:02d}.000000+00:00",
                "accuracy": 0.1 * epoch + 0.01 * int(key[-1]),
                "train_loss": 2.0 / epoch,
                "lr": 0.1,
                "tasks": {task: {"accuracy": 0.1 * epoch} for task in TASKS},
                "seconds": {"train": 1.0},
            }
            for key in keys
        }
        values = [report["accuracy"] for report in reports.values()]
        told = EpochReached(item_id="", epoch=epoch, mean=None, values=values, reports=reports)
        tracker.event(trial, told)
    if status == "new":
        for key in keys:
            about: dict[str, Any] = {"metrics": {}, "parameters": 1104, "seconds": {"train": 2.0}}
            tracker.event(trial, CellFinished(item_id="", key=key, at=AT, **about))
    about = {"device_seconds": 4.0, "parameters": 1104, "share": 0.001}
    tracker.trial_ended(trial, "complete", ended_at=AT, **about)


def tracker_of(
    uri: str, study: str, outbox: Path, *, id: str = "a1", adopts: bool = False, **about: Any
) -> Tracker:
    def connect() -> BackendProcess:
        return BackendProcess(Connection(uri=uri, experiment=study, study=id, adopts=adopts))

    narration = Narration(study=study, locate=lambda key: f"/c/{key}")
    return Tracker(uri, outbox, connect=connect, narration=narration, **about)


def runs_of(uri: str, study: str) -> dict[str, Any]:
    """All runs of an experiment by their tag; fails on duplicates."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(study)
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], max_results=1000)
    runs = {run.data.tags["mmap.run"]: run for run in found}
    assert len(runs) == len(found), "a run was created twice"
    return runs


def test_a_study_told_twice_looks_as_if_told_once(database: Callable[[str], str], tmp_path: Path) -> None:
    from mlflow import MlflowClient

    uri = database("mlflow")
    check_tracking(uri)
    first = tracker_of(uri, "first", tmp_path / "outbox")
    tell(first, 0)
    tell(first, 1)
    scores = [{"metrics": {"accuracy": accuracy}, "scored_at": AT} for accuracy in (0.3, 0.4)]
    cells = [{"key": f"00{seed}", "split": "3-shot", "seed": str(seed)} for seed in (1, 2)]
    first.trial_tested(0, cells, dict(zip(("001", "002"), scores, strict=True)))
    first.trial_started("zero_shot", {"method": "zero_shot"})
    assert first.close(120).note is None

    again = tracker_of(uri, "first", tmp_path / "elsewhere")
    tell(again, 0, status="finished")
    tell(again, 2)
    assert again.close(120).note is None

    runs = runs_of(uri, "first")
    assert {run for run in runs if "cell" not in run} == {
        "trial/0",
        "trial/1",
        "trial/2",
        "baseline/zero_shot",
    }
    trial, cell = runs["trial/0"], runs["trial/0/cell/001"]
    assert trial.info.run_name == "trial 0 · b=4 m=2 n=16 · G=2 · lr 0.001"
    assert trial.info.status == cell.info.status == "FINISHED"
    assert trial.data.params["recipe.lr"] == "0.001"
    metrics = trial.data.metrics
    assert metrics["val_accuracy_mean"] == pytest.approx(0.215) and metrics["val_accuracy_n"] == 2
    assert metrics["val_accuracy_std"] == pytest.approx(0.00707, rel=1e-2)
    assert metrics["test_accuracy_mean"] == pytest.approx(0.35)
    assert (metrics["parameters"], metrics["parameter_share"], metrics["device_seconds"]) == (
        1104,
        0.001,
        4.0,
    )
    assert cell.data.tags["mlflow.parentRunId"] == trial.info.run_id
    assert cell.info.run_name == "seed 1 · 3-shot" and cell.data.tags["ledger"] == "/c/001"
    assert "reused_from" not in cell.data.tags
    client = MlflowClient(uri)
    for run, name in ((trial, "val_accuracy_mean"), (cell, "val_accuracy/sketch")):
        history = client.get_metric_history(run.info.run_id, name)
        assert [point.step for point in history] == [1, 2], "the curve was told twice"

    other = tracker_of(uri, "second", tmp_path / "outbox2")
    tell(other, 0, status="finished")
    assert other.close(120).note is None
    assert runs_of(uri, "second")["trial/0/cell/001"].data.tags["reused_from"] == "study first, trial 0"


@pytest.fixture
def server(importable: None, database: Callable[[str], str], tmp_path: Path) -> Iterator[Any]:
    from mlflow_server import Server

    database("server")  # where the server looks for its own
    server = Server(tmp_path)
    yield server
    server.kill()


def test_a_server_killed_in_the_middle_loses_nothing(server: Any, tmp_path: Path) -> None:
    server.start()
    check_tracking(server.uri)
    tracker = tracker_of(server.uri, "demo", tmp_path / "outbox")
    tell(tracker, 0)
    assert tracker.flush(120)
    server.kill()
    began = time.perf_counter()
    for trial in range(1, 4):
        tell(tracker, trial)
    assert time.perf_counter() - began < 5, "telling waited for the server"
    assert not tracker.flush(0.5)
    server.start()
    assert tracker.close(120).note is None
    runs = runs_of(server.uri, "demo")
    assert {run for run in runs if "cell" not in run} == {f"trial/{n}" for n in range(4)}
    assert len(runs) == 12
    assert all(run.info.status == "FINISHED" for run in runs.values())
    assert all(runs[f"trial/{n}"].data.metrics["val_accuracy_mean"] == pytest.approx(0.215) for n in range(4))


# The run of the study itself


@pytest.fixture
def to(database: Callable[[str], str]) -> Connection:
    return Connection(uri=database("mlflow"), experiment="demo", study="a1", varies=("recipe.lr",))


def tell_study_run(to: Connection, **files: File) -> Delivery:
    """As a driver of its own tells it: begun, with its dataset and files, and ended."""
    from orchestrator.tracking.mlflow.writer import MlflowWriter

    writer = MlflowWriter(to)
    writer.open()
    given: op.Input = {"name": "birds", "digest": "d" * 32, "source": "/data/birds", "profile": {"tasks": 4}}
    begin = op.start("study", name="study demo", time=1, params={"recipe.epochs": 5})
    held = {name.replace("_", "."): file for name, file in files.items()}
    return writer.write([begin, op.log("study", inputs=[given], files=held), op.end("study", "complete", 9)])


def study_run(to: Connection) -> tuple[Any, Any]:
    """The experiment, and its only run."""
    from mlflow import MlflowClient

    client = MlflowClient(to.uri)
    experiment = client.get_experiment_by_name(to.experiment)
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    return experiment, run


def text(to: Connection, run: Any, path: str, tmp_path: Path) -> str:
    from mlflow import MlflowClient

    return Path(MlflowClient(to.uri).download_artifacts(run.info.run_id, path, str(tmp_path))).read_text()


def test_it_holds_its_dataset_once_and_its_files_as_they_were_told_last(
    to: Connection, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    for number in (1, 2):
        page.write_text(f"<html>{number}</html>")
        told = tell_study_run(to, study_yaml={"text": f"seeds: {number}\n"}, report_html={"path": str(page)})
        assert told == Delivery()
    run = study_run(to)[1]
    (given,) = run.inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("birds", "d" * 32)
    assert json.loads(given.dataset.source) == {"uri": "/data/birds"}
    assert [(tag.key, tag.value) for tag in given.tags] == [("mlflow.data.context", "training")]
    assert text(to, run, "study.yaml", tmp_path) == "seeds: 2\n"
    assert text(to, run, "report.html", tmp_path) == "<html>2</html>"
    assert run.info.status == "FINISHED" and run.info.artifact_uri.startswith(
        (tmp_path / "mlartifacts").as_uri()
    )


def test_a_file_that_is_gone_is_refused_and_takes_nothing_with_it(to: Connection, tmp_path: Path) -> None:
    told = tell_study_run(
        to, study_yaml={"text": "seeds: 1\n"}, report_html={"path": str(tmp_path / "gone.html")}
    )
    ((operation, reason),) = told.refused
    assert list(operation["files"]) == ["report.html"] and "gone.html" in reason
    run = study_run(to)[1]
    assert run.info.status == "FINISHED" and len(run.inputs.dataset_inputs) == 1
    assert text(to, run, "study.yaml", tmp_path) == "seeds: 1\n"


def test_artifacts_that_nothing_takes_are_set_aside_one_by_one(
    to: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    def forbidden(self: Any, run_id: str, local: str, folder: str | None = None) -> None:
        raise PermissionError("AccessDenied")

    monkeypatch.setattr(MlflowClient, "log_artifact", forbidden)
    told = tell_study_run(to, study_yaml={"text": "seeds: 1\n"})
    assert told.refused == [] and not told.lost
    ((operation, reason),) = told.undecided
    assert list(operation["files"]) == ["study.yaml"] and "AccessDenied" in reason
    assert study_run(to)[1].info.status == "FINISHED"


def test_an_experiment_of_an_earlier_version_opens_under_model_training_from_then_on(to: Connection) -> None:
    from mlflow import MlflowClient

    MlflowClient(to.uri).create_experiment(to.experiment, tags={"mmap.study/a1": "1"})
    tell_study_run(to)
    experiment = study_run(to)[0]
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    envelope = json.loads(experiment.tags["mlflow.sharedViewState.mmap-a1-trials"])
    assert "params.`recipe.lr`" in json.loads(envelope["state"])["selectedColumns"]
