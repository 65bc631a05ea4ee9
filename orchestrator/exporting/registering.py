"""The registry of models: an artefact in the run of its trial, and a version that says what is known of it.

The run is the one that the study's tracker made. Neither its state nor its times change.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmap_model.errors import InputError
from orchestrator.exporting.mlflow_form import MODEL
from orchestrator.redaction import redact, shown_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from mmap_model.inference.artefact import Artefact
    from orchestrator.exporting.winner import Winner
    from orchestrator.face.stored import Stored

LINK = "registered_model"
"""Tag of the run, before the name of the model: the latest version that was made of it."""

RESERVED = re.compile(r"latest|v\d+", re.IGNORECASE)
"""Aliases that MLflow refuses, as they read like versions."""

PATIENCE_S = 60
"""Seconds for a server to take a version."""


@dataclass(frozen=True, kw_only=True)
class Registered:
    """A version of a model.

    Attributes:
        name, version: of the model.
        alias: that names it now, if one was asked for.
        run: id of the trial's run.
        is_new: False of a version that had been made of the same files.
    """

    name: str
    version: str
    alias: str | None
    run: str
    is_new: bool

    @property
    def uri(self) -> str:
        """What MLflow loads and serves."""
        return f"models:/{self.name}@{self.alias}" if self.alias else f"models:/{self.name}/{self.version}"

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {**vars(self), "uri": self.uri}


class Registry:
    """The registry of the server that shows a study.

    Args:
        stored: the study.
        name: of the model.
        alias: to set on the version, if any.

    Raises:
        InputError: the study is shown by something else than MLflow, the server cannot be reached, or it
            takes no model or alias of that name.
    """

    def __init__(self, stored: Stored, name: str, alias: str | None = None) -> None:
        from orchestrator.tracking.backends import check_tracking
        from orchestrator.tracking.mlflow.backend import Mlflow

        tracking = stored.study.tracking
        self._stored, self._name, self._alias = stored, name, alias
        self._uri = tracking.resolved_uri
        if not issubclass(check_tracking(self._uri, tracking.backend), Mlflow):
            raise InputError(
                f"study {stored.store.name!r} is shown by {tracking.backend}, which registers no models",
                where="--register",
                fix="leave --register out",
            )
        with self._in_words():
            from mlflow import MlflowClient

            self._client: MlflowClient = MlflowClient(tracking_uri=self._uri)
        self._check_names()

    def run_of(self, trial: int) -> str:
        """The id of a trial's run.

        Raises:
            InputError: the server has none.
        """
        from orchestrator.tracking.mlflow.backend import RUN_TAG, STUDY_TAG
        from orchestrator.tracking.operations import trial_run

        store = self._stored.store
        with self._in_words():
            experiment = self._client.get_experiment_by_name(store.name)
            found = []
            if experiment is not None:
                wanted = f"tags.`{RUN_TAG}` = '{trial_run(trial)}' AND tags.`{STUDY_TAG}` = '{store.id}'"
                found = self._client.search_runs([experiment.experiment_id], wanted)
        if not found:
            raise InputError(
                f"{shown_uri(self._uri)} has no run of trial {trial} of study {store.name!r}",
                where="--register",
                fix=f"send it there: orchestrator track {store.name}",
            )
        return str(min(found, key=lambda run: (run.info.start_time, run.info.run_id)).info.run_id)

    def register(self, winner: Winner, folder: Path, artefact: Artefact) -> Registered:
        """Put a checked artefact into the run of its trial and make a version of it; one only, if repeated.

        Raises:
            InputError: the server has no such run, or refuses.
        """
        from orchestrator.tracking.names import metric_name

        run = self.run_of(winner.chosen.trial)
        with self._in_words():
            place = f"exported/{_digest(artefact)}"
            source = f"{self._client.get_run(run).info.artifact_uri.rstrip('/')}/{place}/{MODEL}"
            version = self._version(run, source)
            is_new = version is None
            if version is None:
                self._client.log_artifacts(run, str(folder), place)
                version = self._create(winner, run, source)
            if self._alias is not None:
                self._client.set_registered_model_alias(self._name, self._alias, version)
            link = f"models:/{self._name}/{version}"
            self._client.set_tag(run, metric_name(f"{LINK}/{self._name}"), link)
        return Registered(name=self._name, version=version, alias=self._alias, run=run, is_new=is_new)

    def _version(self, run: str, source: str) -> str | None:
        """The version that was made of these files, if there is one."""
        found = self._client.search_model_versions(f"run_id = '{run}'")
        of_files = (one for one in found if one.name == self._name and one.source == source)
        return next((str(one.version) for one in of_files), None)

    def _create(self, winner: Winner, run: str, source: str) -> str:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(self._name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        made = self._client.create_model_version(
            self._name,
            source,
            run,
            tags=tags(winner),
            description=f"Study {winner.stored.store.name}: {winner.chosen.reason}.",
            await_creation_for=PATIENCE_S,
        )
        return str(made.version)

    def _check_names(self) -> None:
        """Ask for both, because MLflow checks names where it looks them up."""
        from mlflow.exceptions import MlflowException

        if self._alias is not None and RESERVED.fullmatch(self._alias):
            raise InputError(
                f"MLflow keeps {self._alias!r} for itself",
                where="--alias",
                fix="choose another, e.g. champion",
            )
        with self._in_words():
            try:
                self._client.get_model_version_by_alias(self._name, self._alias or "champion")
            except MlflowException as error:
                if "not found" not in error.message:
                    raise

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        """What MLflow raises as an InputError."""
        from mlflow.exceptions import MlflowException

        try:
            yield
        except (MlflowException, OSError) as error:
            said = str(error).strip().splitlines() or [type(error).__name__]
            raise InputError(
                f"{shown_uri(self._uri)} refused it: {redact(said[0])}",
                where="--register",
                fix="correct what it names, or register again once the server answers: this can be repeated",
            ) from error


def tags(winner: Winner) -> dict[str, str]:
    """What a version says of itself: where it comes from, and its numbers."""
    from orchestrator.exporting.measured import measured
    from orchestrator.tracking.names import distinct_names

    chosen = winner.chosen
    numbers = {name: value for part in measured(winner) for name, value in part.named().items()}
    names = distinct_names(numbers)
    return {
        "study": winner.stored.store.name,
        "trial": str(chosen.trial),
        "cells": chosen.key,
        "split": chosen.split,
        "seed": chosen.seed,
        "method": winner.trained.method.name,
        "precision": winner.cell.precision,
        "tasks": ", ".join(winner.trained.task_names),
        **{names[name]: str(value) for name, value in numbers.items()},
    }


def _digest(artefact: Artefact) -> str:
    """Of all files: what is registered once is not written over."""
    lines = (f"{name} {entry.sha256}\n" for name, entry in sorted(artefact.files.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]
