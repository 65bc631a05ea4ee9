"""MLflow behind the seam, as far as it needs no client: its URIs, whether they can be used, its page."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import sqlite3
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from orchestrator.redaction import redact, shown_uri
from orchestrator.tracking.backend import WHERE, Backend, Connection, Page, TrackingError

SQLITE = "sqlite:///"
EXAMPLE = f"{SQLITE}mlflow.db"

ARTIFACTS = "mlartifacts"
"""Folder beside a SQLite database, as MLflow's own server calls it."""

RUN_TAG, STUDY_TAG = "mmap.run", "mmap.study"
"""Tags by which a run is found: its own name, and the id of its study."""


class Mlflow(Backend):
    """Shows a study as an experiment, a row as a run with a child run per cell; see ``mlflow.writer``."""

    keeps_reports = True
    schemes = ("sqlite", "http", "https", "postgresql", "mysql", "mssql", "databricks", "databricks-uc", "uc")

    @classmethod
    def serves(cls, scheme: str) -> bool:
        """Plain paths too, so that they are refused with a reason; and what plugins of MLflow add."""
        if scheme.partition("+")[0] in ("", "file", *cls.schemes):
            return True
        return scheme in importlib.metadata.entry_points(group="mlflow.tracking_store").names

    @classmethod
    def check(cls, uri: str, timeout: float) -> None:
        """Try to write (sqlite) or to reach (http) the store; other databases and services pass."""
        scheme = urllib.parse.urlparse(uri).scheme
        if scheme == "sqlite":
            _check_sqlite(uri)
        elif scheme in ("http", "https"):
            _check_server(uri, timeout)
        elif scheme in ("", "file"):
            raise TrackingError(
                f"{shown_uri(uri)!r} is a folder; MLflow no longer keeps runs in plain files",
                where=WHERE,
                fix=f"use {EXAMPLE}, or the address of an MLflow server",
            )

    @classmethod
    def place(cls, uri: str) -> str | None:
        path = file_of(uri)
        return None if path is None else str(path)

    @classmethod
    def page(cls, uri: str, host: str, port: int) -> Page:
        if uri.startswith(("http://", "https://")):
            return Page(address=shown_uri(uri))
        make_private(uri)
        # With four workers and the jobs of chat applications, its defaults, a small machine does not come up.
        command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port)]
        variables = {"MLFLOW_BACKEND_STORE_URI": uri, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
        return Page(
            address=f"http://{name}:{port}",
            command=[*command, "--workers", "1"],
            variables=variables,
            health="/health",
        )

    @classmethod
    def address(cls, page: str, to: Connection) -> str:
        from orchestrator.tracking.mlflow.page_api import study_address  # which imports this module's parts

        return study_address(page, to)

    @classmethod
    def runs(cls, page: str, to: Connection) -> dict[str, str]:
        from orchestrator.tracking.mlflow.page_api import run_addresses

        return run_addresses(page, to) if page.startswith(("http://", "https://")) else {}

    @classmethod
    def connect(cls, to: Connection) -> Backend:
        from orchestrator.tracking.mlflow.writer import MlflowWriter  # seconds

        make_private(to.uri)
        return MlflowWriter(to)


def make_private(uri: str) -> None:
    """Create a database in the folder of the run, which nobody asked to share, for this user alone.

    The folder for files of its runs too. SQLite gives its journals the same mode. A path of the user's own
    follows the umask, as records do.
    """
    path = file_of(uri)
    if path is not None and path.name and not path.is_absolute():
        with contextlib.suppress(OSError):  # it is there, or its writer will tell
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with contextlib.suppress(OSError):
            (path.parent / ARTIFACTS).mkdir(mode=0o700)


def artifact_location(uri: str, experiment: str) -> str | None:
    """Where files of a new experiment lie: beside a SQLite database; None where the server decides.

    MLflow would take ``mlruns`` in the folder where this process happens to run.
    """
    path = file_of(uri)
    return None if path is None else (path.absolute().parent / ARTIFACTS / experiment).as_uri()


def file_of(uri: str) -> Path | None:
    """The file of a SQLite URI as SQLAlchemy opens it: without options, ``%20`` being a space."""
    if not uri.startswith(SQLITE):
        return None
    return Path(urllib.parse.unquote(uri.removeprefix(SQLITE).partition("?")[0]))


def _check_sqlite(uri: str) -> None:
    path = file_of(uri)
    fix = f"give a file this user may write, e.g. tracking.uri={EXAMPLE} (relative: three slashes)"
    if path is None or not path.name:
        raise TrackingError(f"{uri!r} names no file", where=WHERE, fix=fix)
    is_new = not path.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=5.0)
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("CREATE TABLE __writable (x)")
            connection.rollback()
        finally:
            connection.close()
    except (OSError, sqlite3.Error) as error:
        raise TrackingError(f"cannot write {path}: {error}", where=WHERE, fix=fix) from error
    if is_new:
        path.unlink(missing_ok=True)


def _check_server(uri: str, timeout: float) -> None:
    fix = f"start the server, correct the address, or use tracking.uri={EXAMPLE}"
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=timeout):
            return
    except urllib.error.HTTPError as error:
        if error.code in (401, 403, 404):  # it answers; who may write is settled with the first call
            return
        raise TrackingError(
            f"{shown_uri(uri)} answers {error.code} {error.reason}", where=WHERE, fix=fix
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise TrackingError(
            f"cannot reach {shown_uri(uri)}: {redact(str(reason))}", where=WHERE, fix=fix
        ) from error
