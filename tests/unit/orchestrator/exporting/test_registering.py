"""A version of a registered model says where it comes from, and exists only if the check holds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from orchestrator.cli.main import execute
from orchestrator.exporting import checking
from orchestrator.exporting.checking import ExportCheck
from orchestrator.exporting.choice import choose
from orchestrator.exporting.scoring import ScoringJob, answer
from orchestrator.face.stored import Stored
from orchestrator.tracking import study_tracker
from orchestrator.tracking.mlflow.backend import RUN_TAG, STUDY_TAG
from orchestrator.tracking.mlflow.writer import MlflowWriter
from orchestrator.tracking.telling import tell_study


@pytest.fixture(scope="module")
def study(trained) -> Stored:  # type: ignore[no-untyped-def]
    return trained()


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables, which take seconds to make."""
    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def client(
    study: Stored, empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MlflowClient]:
    """Of the study's database, in a folder of its own for the artefacts; scores in this process."""
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(empty, tmp_path / "mlflow.db")
    monkeypatch.setattr(study_tracker, "BackendProcess", MlflowWriter)
    monkeypatch.setattr(checking, "_answer", lambda job: answer(ScoringJob.read(job)))
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    object.__setattr__(study.study.tracking, "uri", uri)
    study.store.save_study(study.study.to_plain())
    yield MlflowClient(tracking_uri=uri)


def command(study: Stored, *more: str, form: str = "mlflow") -> list[str]:
    root = str(study.store.storage.root)
    return ["export", "made", "--storage", root, "--format", form, "--out", "x", *more]


REGISTER = ("--register", "made winner", "--alias", "champion")


def test_a_version_carries_its_origin_and_numbers_and_the_run_links_to_it(
    study: Stored, client: MlflowClient, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert tell_study(study.study, study.store, study.ledger, patience=5).told.note is None
    (trial,) = study.store.load_trials()
    (chosen,) = choose(study.store, study.ledger)
    for number, key in enumerate(trial.keys):
        metrics = {"accuracy": 0.25 + number / 2, "nll": 1.0, "tasks": {"photo": {"accuracy": 0.125}}}
        study.ledger.commit_test(key, {"metrics": metrics}, {})
    capfd.readouterr()

    assert execute([*command(study, *REGISTER), "--json"]) == 0, capfd.readouterr().err
    (document,) = json.loads(capfd.readouterr().out)
    registered = document["registered"]
    assert registered["uri"] == "models:/made winner@champion" and registered["version"] == "1"
    version = client.get_model_version_by_alias("made winner", "champion")
    run = client.get_run(registered["run"])
    assert (run.data.tags[RUN_TAG], run.data.tags[STUDY_TAG]) == ("trial/0", study.store.id)
    assert run.data.tags["registered_model/made winner"] == "models:/made winner/1"
    assert version.run_id == registered["run"] and chosen.reason in version.description
    said = version.tags
    assert (said["study"], said["trial"], said["cells"]) == ("made", "0", chosen.key)
    assert (said["seed"], said["split"], said["method"]) == (chosen.seed, chosen.split, "mmap")
    assert float(said["validation_accuracy"]) == chosen.validation
    assert float(said["validation_accuracy_mean"]) == chosen.over_seeds["mean"]  # type: ignore[index]
    assert said["validation_accuracy_n"] == "2" and "validation_accuracy/sketch" in said
    assert not [name for name in said if name.startswith("test_")], "the study did not look at test images"

    mlflow.set_tracking_uri(client.tracking_uri)
    try:
        loaded = mlflow.pyfunc.load_model("models:/made winner@champion")
    finally:
        mlflow.set_tracking_uri(None)
    assert loaded.metadata.run_id is None and loaded.metadata.signature.params.to_dict()[0]["name"] == "top"

    study.store.record_test_evaluation(reason="confirm", keys=trial.keys)
    before = client.get_run(registered["run"]).info
    assert execute(command(study, "--register", "other", "--check")) == 0
    out = capfd.readouterr().out
    assert "Exported before" in out and "Registered: other version 1" in out
    tested = client.get_model_version("other", "1").tags
    assert float(tested["test_accuracy_mean"]) == 0.5 and tested["test_accuracy_n"] == "2"
    assert float(tested["test_accuracy/photo"]) == 0.125

    assert execute(command(study, *REGISTER)) == 0
    assert "Registered before: made winner version 1" in capfd.readouterr().out
    after = client.get_run(registered["run"]).info
    times = [(info.status, info.start_time, info.end_time) for info in (run.info, before, after)]
    assert times[0] == times[1] == times[2] and times[0][0] == "FINISHED"


def test_nothing_is_registered_that_differs_from_the_records(
    study: Stored,
    client: MlflowClient,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert tell_study(study.study, study.store, study.ledger, patience=5).told.note is None
    monkeypatch.setattr(
        checking, "check", lambda *_: ExportCheck(against="the records", refused="the hash is another")
    )
    assert execute(command(study, *REGISTER)) == 1
    said = capfd.readouterr().err
    assert "Not registered." in said and "the hash is another" in said
    assert not client.search_registered_models()
    (run,) = [r for r in _runs(client) if r.data.tags[RUN_TAG] == "trial/0"]
    assert not client.list_artifacts(run.info.run_id)


def _runs(client: MlflowClient) -> list[mlflow.entities.Run]:
    experiment = client.get_experiment_by_name("made")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


@pytest.mark.parametrize(
    ("more", "form", "said"),
    [
        (("--alias", "champion"), "mlflow", "add --register NAME"),
        (("--register", "x"), "onnx", "--format mlflow"),
        ((*REGISTER, "--all-seeds"), "mlflow", "leave out --alias or --all-seeds"),
        (("--register", "a/b"), "mlflow", "a/b"),
        (("--register", "x", "--alias", "no blanks"), "mlflow", "no blanks"),
        (("--register", "x", "--alias", "v1"), "mlflow", "choose another, e.g. champion"),
        (REGISTER, "mlflow", "orchestrator track made"),
    ],
)
def test_what_cannot_be_registered_is_refused_before_anything_is_written(
    study: Stored,
    client: MlflowClient,
    capfd: pytest.CaptureFixture[str],
    more: tuple[str, ...],
    form: str,
    said: str,
) -> None:
    assert execute(command(study, *more, form=form)) == 2
    assert said in " ".join(capfd.readouterr().err.split())
    assert not Path("x").exists()


def test_a_server_that_is_away_is_said(
    study: Stored, client: MlflowClient, capfd: pytest.CaptureFixture[str]
) -> None:
    object.__setattr__(study.study.tracking, "uri", "http://127.0.0.1:9")
    study.store.save_study(study.study.to_plain())
    assert execute(command(study, *REGISTER)) == 2
    assert "cannot reach http://127.0.0.1:9" in " ".join(capfd.readouterr().err.split())
