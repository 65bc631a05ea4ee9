"""``orchestrator ui``: the web page of a study's runs."""

from __future__ import annotations

import os
import subprocess
from typing import Annotated

import typer

from orchestrator.cli.options import Overrides, Storage, StudyName
from orchestrator.redaction import shown_uri


def add_to(app: typer.Typer) -> None:
    app.command("ui")(ui)


def ui(
    study: StudyName,
    overrides: Overrides = None,
    storage: Storage = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the page.")] = 5000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> int:
    """Show the runs of a study in MLflow (end with Ctrl-C)."""
    from mmap_model.errors import InputError
    from orchestrator.cli.console import err, out
    from orchestrator.face.stored import find_stored
    from orchestrator.study import StudyError, load_study
    from orchestrator.tracking.backends import find_backend, shortcomings

    if overrides and storage is None:
        tracking = load_study(study, overrides).tracking
    else:
        try:
            tracking = find_stored(study, storage).study.tracking
        except StudyError:
            if storage is not None:
                raise
            tracking = load_study(study).tracking
    uri = tracking.resolved_uri
    backend = find_backend(uri, tracking.backend)
    page = backend.page(uri, host, port)
    if page is None:
        raise InputError(
            ". ".join([f"the runs of {study} are in {shown_uri(uri)}", *shortcomings(backend)]),
            where="tracking.uri",
            fix="look there, or send them to MLflow: orchestrator track STUDY --to sqlite:///mlflow.db",
        )
    if not page.command:
        out().print(f"The runs of {study} are at {page.address}")
        return 0
    err().print(f"Runs of {study} in {shown_uri(uri)}: {page.address}")
    return subprocess.call(page.command, env={**os.environ, **page.variables})
