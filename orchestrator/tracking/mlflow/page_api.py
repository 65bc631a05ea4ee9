"""What a server of MLflow is asked for addresses of a study's runs, over HTTP: its client takes seconds."""

from __future__ import annotations

import base64
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from orchestrator.redaction import redact, shown_uri
from orchestrator.tracking.backend import Connection, TrackingError
from orchestrator.tracking.mlflow.backend import RUN_TAG, STUDY_TAG
from orchestrator.tracking.mlflow.views import address, lacking_tags, run_address

TIMEOUT_S = 10.0


def study_address(page: str, to: Connection) -> str:
    """Address of the runs of a study. Tags that its views need are set where they are missing.

    Args:
        page: base address of a server, credentials included.
        to: the study.

    Raises:
        TrackingError: the server does not know the study, or does not answer this.
    """
    with _explained(page, to):
        found = _experiment(page, to)
        tags = {tag["key"]: tag["value"] for tag in found.get("tags", ())}
        for key, value in lacking_tags(to, tags, at=round(time.time() * 1000)).items():
            tag = {"experiment_id": found["experiment_id"], "key": key, "value": value}
            _ask(page, "experiments/set-experiment-tag", tag)
        return address(shown_uri(page), found["experiment_id"], to.study)


def run_addresses(page: str, to: Connection) -> dict[str, str]:
    """Addresses of the runs of a study, cells apart, by their names.

    Args:
        page: base address of a server, credentials included.
        to: the study.

    Raises:
        TrackingError: the server does not know the study, or does not answer this.
    """
    found: dict[str, str] = {}
    with _explained(page, to):
        experiment = _experiment(page, to)["experiment_id"]
        mine = f"tags.`{STUDY_TAG}` = '{to.study}' AND tags.`kind` != 'cell'"
        asked = {"experiment_ids": [experiment], "filter": mine, "max_results": 1000}
        while True:
            answer = _ask(page, "runs/search", asked)
            for run in answer.get("runs", ()):
                tags = {tag["key"]: tag["value"] for tag in run["data"]["tags"]}
                found[tags[RUN_TAG]] = run_address(shown_uri(page), experiment, run["info"]["run_id"])
            if not answer.get("next_page_token"):
                return found
            asked = {**asked, "page_token": answer["next_page_token"]}


@contextmanager
def _explained(page: str, to: Connection) -> Iterator[None]:
    """Errors of the server as TrackingError."""
    shown = shown_uri(page)
    try:
        yield
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


def _experiment(page: str, to: Connection) -> dict[str, Any]:
    query = urllib.parse.urlencode({"experiment_name": to.experiment})
    found: dict[str, Any] = _ask(page, f"experiments/get-by-name?{query}")["experiment"]
    return found


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
