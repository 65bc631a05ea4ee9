"""``orchestrator ui``: a study's runs in the MLflow web page."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Annotated

import typer

from orchestrator.cli.options import Overrides, StudyName
from orchestrator.redaction import shown_uri


def add_to(app: typer.Typer) -> None:
    app.command("ui")(ui)


def ui(
    study: StudyName,
    overrides: Overrides = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the page.")] = 5000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> int:
    """Open the MLflow page on a study's runs (Ctrl-C ends it)."""
    from orchestrator.cli.console import err, out
    from orchestrator.study import load_study

    uri = load_study(study, overrides or ()).tracking.resolved_uri
    if uri.startswith(("http://", "https://")):
        out().print(f"The runs of {study} are at {shown_uri(uri)}")
        return 0
    err().print(f"Runs of {study} in {shown_uri(uri)}: http://{host}:{port}")
    command = [sys.executable, "-m", "mlflow", "ui", "--host", host, "--port", str(port)]
    # Not an argument: everybody on the machine can read those.
    return subprocess.call(command, env={**os.environ, "MLFLOW_BACKEND_STORE_URI": uri})
