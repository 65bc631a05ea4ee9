"""How MLflow's page shows a study: under model training, and in two views saved with the experiment.

A view is a tag of the experiment. Its page opens one with ``?viewStateShareKey=<key>`` and lists those with a
name under its saved views. The form is that of MLflow 3.17 (``mlflow/server/js``, module of saved views):
``{name, createdAt, updatedAt, state}``, where ``state`` is JSON of search facets and of what the table shows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.tracking.backend import Connection
from orchestrator.tracking.mlflow.backend import STUDY_TAG

VIEW_TAG = "mlflow.sharedViewState."

KIND_TAG, KIND = "mlflow.experimentKind", "custom_model_development"
"""Without it MLflow 3 guesses, and takes an experiment without models for one of chat applications."""

WORKFLOW = "machine_learning"
"""In an address: the side of MLflow's page for model training, whatever side its reader left it on."""

METRICS = {
    "val_accuracy_mean": 160,
    "val_accuracy_std": 130,
    "test_accuracy_mean": 150,
    "parameters": 105,
    "device_seconds": 130,
}
"""Columns of a view with their widths in pixels."""

NAME_WIDTH, STATE_WIDTH, PARAM_WIDTH = 330, 95, 150

CREATED = "attributes.start_time"
"""Order in which MLflow's page nests runs; in any other order it lists all of them alike."""

TRIALS, CELLS = "trials", "cells"


def view_key(study: str, view: str = TRIALS) -> str:
    """Key of a view of the study with this id."""
    return f"mmap-{study or 'all'}-{view}"


def address(page: str, experiment: str, study: str) -> str:
    """Of the runs of a study: its trials, with the columns that matter."""
    query = f"workflowType={WORKFLOW}&viewStateShareKey={view_key(study)}"
    return f"{page.rstrip('/')}/#/experiments/{experiment}/runs?{query}"


def run_address(page: str, experiment: str, run: str) -> str:
    """Of a single run, by its id."""
    return f"{page.rstrip('/')}/#/experiments/{experiment}/runs/{run}?workflowType={WORKFLOW}"


def lacking_tags(to: Connection, tags: Mapping[str, str], *, at: int) -> dict[str, str]:
    """Tags that an experiment needs for all this and does not have yet, or has otherwise for its views.

    What kind of experiment it is is left to whoever has set it.

    Args:
        to: the study and its experiment.
        tags: of the experiment as it is.
        at: milliseconds since 1970, shown as the time of a view.
    """
    lacking = {} if KIND_TAG in tags else {KIND_TAG: KIND}
    for key, (name, state) in _views(to).items():
        if _said(tags.get(key)) != (name, state):
            lacking[key] = json.dumps({"name": name, "createdAt": at, "updatedAt": at, "state": state})
    return lacking


def _views(to: Connection) -> dict[str, tuple[str, str]]:
    """By tag, name and state of the views of a study."""
    mine = [f"tags.`{STUDY_TAG}` = '{to.study}'"] if to.study else []  # none before studies had ids
    trials = _state(
        to.varies,
        searchFilter=" AND ".join([*mine, "tags.`kind` != 'cell'"]),
        orderByKey="metrics.`val_accuracy_mean`",
    )
    cells = _state(to.varies, searchFilter=" AND ".join(mine), orderByKey=CREATED)
    return {
        VIEW_TAG + view_key(to.study, TRIALS): (f"{to.experiment}: trials by validation accuracy", trials),
        VIEW_TAG + view_key(to.study, CELLS): (
            f"{to.experiment}: trials with their cells, latest first",
            cells,
        ),
    }


def _state(varies: Sequence[str], **facets: Any) -> str:
    """What the page shows, as JSON: facets of the search, and columns."""
    widths = {"attributes.`Run Name`": NAME_WIDTH, "tags.`state`": STATE_WIDTH}
    widths |= {f"metrics.`{name}`": width for name, width in METRICS.items()}
    widths |= {f"params.`{name}`": PARAM_WIDTH for name in varies}
    state = {
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        **facets,
        "selectedColumns": [column for column in widths if not column.startswith("attributes.")],
        "columnOrder": list(widths),
        "columnWidths": widths,
        "groupBy": None,
        "runListHidden": False,
        "viewMaximized": False,
    }
    return json.dumps(state)


def _said(tag: str | None) -> tuple[str, str] | None:
    """Name and state of a view's tag; None if it is none."""
    try:
        document = json.loads(tag or "")
        return document["name"], document["state"]
    except (ValueError, KeyError, TypeError):
        return None
