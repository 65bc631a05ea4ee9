"""The run of a study itself in a real MLflow: its dataset, its files, its experiment."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.tracking import Connection, Delivery
from orchestrator.tracking import operations as op
from orchestrator.tracking.operations import File


@pytest.fixture
def to(database: Callable[[str], str]) -> Connection:
    return Connection(uri=database("mlflow"), experiment="demo", study="a1", varies=("recipe.lr",))


def write(to: Connection, **files: File) -> Delivery:
    """As a driver of its own tells it: begun, with its dataset and files, and ended."""
    from orchestrator.tracking.mlflow.writer import MlflowWriter

    writer = MlflowWriter(to)
    writer.open()
    given: op.Input = {"name": "birds", "digest": "d" * 32, "source": "/data/birds", "profile": {"tasks": 4}}
    begin = op.start("study", name="study demo", time=1, params={"recipe.epochs": 5})
    held = {name.replace("_", "."): file for name, file in files.items()}
    return writer.write([begin, op.log("study", inputs=[given], files=held), op.end("study", "complete", 9)])


def found(to: Connection) -> tuple[Any, Any]:
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
        told = write(to, study_yaml={"text": f"seeds: {number}\n"}, report_html={"path": str(page)})
        assert told == Delivery()
    run = found(to)[1]
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
    told = write(to, study_yaml={"text": "seeds: 1\n"}, report_html={"path": str(tmp_path / "gone.html")})
    ((operation, reason),) = told.refused
    assert list(operation["files"]) == ["report.html"] and "gone.html" in reason
    run = found(to)[1]
    assert run.info.status == "FINISHED" and len(run.inputs.dataset_inputs) == 1
    assert text(to, run, "study.yaml", tmp_path) == "seeds: 1\n"


def test_artifacts_that_nothing_takes_are_set_aside_one_by_one(
    to: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    def forbidden(self: Any, run_id: str, local: str, folder: str | None = None) -> None:
        raise PermissionError("AccessDenied")

    monkeypatch.setattr(MlflowClient, "log_artifact", forbidden)
    told = write(to, study_yaml={"text": "seeds: 1\n"})
    assert told.refused == [] and not told.lost
    ((operation, reason),) = told.undecided
    assert list(operation["files"]) == ["study.yaml"] and "AccessDenied" in reason
    assert found(to)[1].info.status == "FINISHED"


def test_an_experiment_of_an_earlier_version_opens_under_model_training_from_then_on(to: Connection) -> None:
    from mlflow import MlflowClient

    MlflowClient(to.uri).create_experiment(to.experiment, tags={"mmap.study/a1": "1"})
    write(to)
    experiment = found(to)[0]
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    envelope = json.loads(experiment.tags["mlflow.sharedViewState.mmap-a1-trials"])
    assert "params.`recipe.lr`" in json.loads(envelope["state"])["selectedColumns"]
