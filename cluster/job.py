"""One attempt at a study as a Ray job: what is asked for, and what the cluster says about it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STUDY, STORAGE, SETTINGS = "orchestrator_study", "orchestrator_storage", "orchestrator_settings"
"""Metadata of a job, for finding it again. Visible to every client of the cluster."""

OVER = ("succeeded", "failed", "stopped")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to run.

    Attributes:
        study: name of the study.
        storage: where its records lie, as it tells two studies of one name apart; never shown.
        shown_storage: the same without credentials.
        settings: hash of all that the study says; a running job of other settings is not attached to.
        command: of the driver, run in the working directory.
        variables: environment of the job's processes, visible to every client of the cluster.
    """

    study: str
    storage: str
    shown_storage: str
    settings: str
    command: Sequence[str]
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def stem(self) -> str:
        """Submission ids without their counter."""
        place = hashlib.sha256(f"{self.study}\n{self.storage}".encode()).hexdigest()[:8]
        return f"{self.study}-{place}"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One attempt at a study, as the cluster knows it.

    Attributes:
        state: ``pending``, ``running``, ``succeeded``, ``failed`` or ``stopped``.
        exit_code: of the driver, once it ended by itself.
        started, ended: seconds since 1970.
        message: what Ray says about the state.
    """

    id: str
    study: str
    storage: str
    settings: str
    command: str
    state: str
    exit_code: int | None = None
    started: float | None = None
    ended: float | None = None
    message: str = ""

    @property
    def over(self) -> bool:
        return self.state in OVER

    @property
    def attempt(self) -> int:
        """The counter of its id; 0 for ids that are not ours."""
        counter = self.id.rpartition("-")[2]
        return int(counter) if counter.isdecimal() else 0


def job_of(details: Any) -> Job:
    """A job from ``ray.job_submission.JobDetails``."""
    metadata = details.metadata or {}
    return Job(
        id=details.submission_id,
        study=metadata.get(STUDY) or _study_in(details.entrypoint),
        storage=metadata.get(STORAGE, ""),
        settings=metadata.get(SETTINGS, ""),
        command=details.entrypoint,
        state=str(getattr(details.status, "value", details.status)).lower(),
        exit_code=details.driver_exit_code,
        started=details.start_time / 1000 if details.start_time else None,
        ended=details.end_time / 1000 if details.end_time else None,
        message=details.message or "",
    )


def _study_in(command: str) -> str:
    """The study of a job that was started by Ray's own command line; empty if it runs something else."""
    found = re.search(
        r"\borchestrator(?:\s+|\.cli\.main\s+)(?:sweep|confirm|compare)\s+(?:-\S+\s+)*(\S+)", command
    )
    return Path(found[1].strip("'\"")).stem if found else ""
