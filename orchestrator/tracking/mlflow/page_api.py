"""What a page of MLflow is asked for the address of a study's runs, over HTTP: its client takes seconds."""

from __future__ import annotations

import base64
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

from orchestrator.redaction import redact, shown_uri
from orchestrator.tracking.backend import Connection, TrackingError
from orchestrator.tracking.mlflow.views import address, lacking_tags

TIMEOUT_S = 10.0


def study_address(page: str, to: Connection) -> str:
    """Address of the runs of a study. Tags that its views need are set where they are missing.

    Args:
        page: base address of a server, credentials included.
        to: the study.

    Raises:
        TrackingError: the server does not know the study, or does not answer this.
    """
    shown = shown_uri(page)
    try:
        query = urllib.parse.urlencode({"experiment_name": to.experiment})
        found = _ask(page, f"experiments/get-by-name?{query}")["experiment"]
        tags = {tag["key"]: tag["value"] for tag in found.get("tags", ())}
        for key, value in lacking_tags(to, tags, at=round(time.time() * 1000)).items():
            tag = {"experiment_id": found["experiment_id"], "key": key, "value": value}
            _ask(page, "experiments/set-experiment-tag", tag)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            raise TrackingError(
                f"{shown} has no runs of {to.experiment} yet",
                where="STUDY",
                fix=f"run it, or send its records: orchestrator track {to.experiment}",
            ) from error
        raise TrackingError(f"{shown} answers {error.code} {error.reason}", where="tracking.uri") from error
    except (OSError, ValueError, KeyError) as error:
        raise TrackingError(f"{shown}: {redact(str(error))}", where="tracking.uri") from error
    return address(shown, found["experiment_id"], to.study)


def _ask(page: str, call: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    parts = urllib.parse.urlsplit(page)
    base = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **_authorization(parts)}
    request = urllib.request.Request(f"{base}/api/2.0/mlflow/{call}", data, headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
        document: dict[str, Any] = json.loads(answer.read())
        return document


def _authorization(page: urllib.parse.SplitResult) -> dict[str, str]:
    """As MLflow's client has it: from the address, or from its variables."""
    user = urllib.parse.unquote(page.username or os.environ.get("MLFLOW_TRACKING_USERNAME", ""))
    password = urllib.parse.unquote(page.password or os.environ.get("MLFLOW_TRACKING_PASSWORD", ""))
    if user:
        return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    return {"Authorization": f"Bearer {token}"} if token else {}
