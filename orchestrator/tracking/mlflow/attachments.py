"""Datasets and files of a run, as MLflow takes them. Imports mlflow: for the writer alone."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from orchestrator.tracking.operations import File, Input

CONTEXT_TAG = "mlflow.data.context"


def log_inputs(client: MlflowClient, run_id: str, inputs: Sequence[Input]) -> None:
    """Say what a run is about. One of the same name and digest is there once, however often it is told."""
    datasets = [DatasetInput(_dataset(given), [InputTag(CONTEXT_TAG, "training")]) for given in inputs]
    if datasets:
        client.log_inputs(run_id, datasets)


def put_file(client: MlflowClient, run_id: str, path: str, file: File) -> None:
    """Put a file among the artifacts of a run, in place of an earlier one of its name.

    Args:
        client: of the server.
        run_id: the run.
        path: among its artifacts.
        file: what it holds.

    Raises:
        MlflowException: it was not taken. What keeps artifacts is often another server than the one that
            keeps runs, and its clients raise what they like.
    """
    folder, _, name = path.rpartition("/")
    with tempfile.TemporaryDirectory() as temporary:
        local = Path(temporary, name)
        try:
            if "text" in file:
                local.write_text(file["text"], encoding="utf-8")
            else:
                shutil.copyfile(file["path"], local)
        except OSError as error:  # e.g. it went with the outbox of an earlier driver
            raise MlflowException(f"{path}: {error}", error_code=INVALID_PARAMETER_VALUE) from error
        try:
            client.log_artifact(run_id, str(local), folder or None)
        except MlflowException:
            raise
        except Exception as error:
            raise MlflowException(f"{path}: {type(error).__name__}: {error}") from error


def _dataset(given: Input) -> Dataset:
    """In MLflow's words: a place is of the type ``local``; what has none was generated."""
    source = given["source"]
    is_place = "/" in source
    return Dataset(
        name=given["name"],
        digest=given["digest"],
        source_type="local" if is_place else "generated",
        source=json.dumps({"uri": source} if is_place else {"name": source}),
        profile=json.dumps(given["profile"]),
    )
