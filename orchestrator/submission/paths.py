"""Paths that a study names must mean the same on every node of a cluster.

A job starts in a temporary folder of the head node that goes with it: relative paths lead nowhere there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from mmap_model.architecture import LOCAL_DIR
from orchestrator.study import Study, StudyError, StudyPlan, Tracking
from orchestrator.study.model import DEFAULT_URI, SQLITE
from orchestrator.tracking.backends import find_backend


def in_ray_job(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process was started as a Ray job."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in environment


def check_paths(study: Study) -> None:
    """Raise StudyError, naming the key, for the first path that only means something in this folder."""
    for key, path, fix in _paths(study):
        check_path(key, path, fix)


def check_path(key: str, path: str, fix: str) -> None:
    """Raise StudyError, naming ``key``, if a path only means something in this folder."""
    if "://" not in path and not Path(path).is_absolute():
        raise StudyError(
            f"{path!r} is relative to the folder that a study is started in; a job starts in a "
            "temporary one on the cluster",
            where=key,
            fix=fix,
        )


def local_paths(study: Study) -> dict[str, str]:
    """Paths of data and weights on a file system, by the key that names them."""
    kept = ("storage", "tracking.uri")
    return {key: path for key, path, _ in _paths(study) if key not in kept and "://" not in path}


def for_job(study: Study, environment: Mapping[str, str] = os.environ) -> Study:
    """The study as a job runs it: checked, and with a tracking store that outlives the job.

    Without ``tracking.uri`` and ``MLFLOW_TRACKING_URI`` runs go to ``mlflow.db`` beside the records.

    Raises:
        StudyError: a path is relative, or runs would have nowhere to go.
    """
    check_paths(study)
    if study.tracking.uri or environment.get("MLFLOW_TRACKING_URI"):
        return study
    if "://" in study.storage:
        raise StudyError(
            f"runs would go to {DEFAULT_URI} in the temporary folder of this job",
            where="tracking.uri",
            fix="give the address of an MLflow server: tracking.uri=http://HOST:5000, or MLFLOW_TRACKING_URI",
        )
    uri = f"{SQLITE}{quote(str(Path(study.storage) / 'mlflow.db'))}"
    return study.model_copy(update={"tracking": Tracking(uri=uri)})


def plan_for_job(plan: StudyPlan, environment: Mapping[str, str] = os.environ) -> StudyPlan:
    """The plan with its study as ``for_job`` has it, inside a job; elsewhere as it is.

    Raises:
        StudyError: as ``for_job``.
    """
    return replace(plan, study=for_job(plan.study, environment)) if in_ray_job(environment) else plan


def _paths(study: Study) -> Iterator[tuple[str, str, str]]:
    """Key, path and what to do about it, of all paths that a study gives."""
    every = "that all nodes see, such as"
    yield "storage", study.storage, f"give one {every} storage=/shared/studies or storage=s3://bucket/studies"
    uri = study.tracking.resolved_uri
    if study.tracking.uri or "MLFLOW_TRACKING_URI" in os.environ:
        path = find_backend(uri, study.tracking.backend).place(uri)
        if path is not None:
            yield "tracking.uri", path, f"give a path {every} {SQLITE}/shared/mlflow.db, or a server"
    data = study.dataset
    for name in ("root", "lists", "excluded", "store"):
        if value := getattr(data, name, None):
            yield f"dataset.{name}", str(value), f"give a path {every} dataset.{name}=/shared/data"
    if study.backbone.model.startswith(LOCAL_DIR):
        folder = study.backbone.model.removeprefix(LOCAL_DIR)
        yield "backbone.model", folder, f"give a path {every} {LOCAL_DIR}/shared/clip"
    pretrained = study.backbone.pretrained or ""
    if "/" in pretrained or Path(pretrained).suffix:  # the file need not exist here
        yield "backbone.pretrained", pretrained, f"give a path {every} /shared/clip.pt"
