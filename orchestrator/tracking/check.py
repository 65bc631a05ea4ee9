"""Whether a tracking URI can be used, found out before anything starts and without importing mlflow."""

from __future__ import annotations

import os
import sqlite3
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from mmap_model.errors import InputError
from orchestrator.redaction import redact, shown_uri

DEFAULT_URI = "sqlite:///mlflow.db"
WHERE = "tracking.uri"


class TrackingError(InputError):
    """A tracking URI that cannot be written or reached."""


def default_uri() -> str:
    """``$MLFLOW_TRACKING_URI``, or ``sqlite:///mlflow.db`` in the current folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


def check_tracking(uri: str, *, timeout: float = 5.0, where: str | None = None) -> None:
    """Try to write (sqlite) or to reach (http) the tracking store; other databases and services pass.

    Args:
        uri: tracking URI.
        timeout: seconds for a server to answer.
        where: what holds the URI; by default ``tracking.uri`` of the study.

    Raises:
        TrackingError: naming the URI, the reason and what to change.
    """
    try:
        _check(uri, timeout)
    except TrackingError as error:
        raise TrackingError(error.problem, where=where or WHERE, fix=error.fix) from error.__cause__


def _check(uri: str, timeout: float) -> None:
    scheme = urllib.parse.urlparse(uri).scheme
    if scheme == "sqlite":
        _check_sqlite(uri)
    elif scheme in ("http", "https"):
        _check_server(uri, timeout)
    elif scheme in ("", "file"):
        raise TrackingError(
            f"{shown_uri(uri)!r} is a folder; MLflow no longer keeps runs in plain files",
            where=WHERE,
            fix=f"use {DEFAULT_URI}, or the address of an MLflow server",
        )


def _check_sqlite(uri: str) -> None:
    path = Path(uri.removeprefix("sqlite:///"))
    fix = "give a file this user may write, e.g. tracking.uri=sqlite:///mlflow.db (relative: three slashes)"
    if not uri.startswith("sqlite:///") or not path.name:
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
    fix = "start the server, correct the address, or use tracking.uri=sqlite:///mlflow.db"
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
