"""What a backend is told about trials and cells, as plain operations that bear repetition.

    start   create a run or take it up again: parent, name, tags, params, cells, time
    log     metrics, each [name, value, step, time], and tags; of the study's own run also inputs and files
    end     close a run: status, time

``run`` names a run within the study: ``trial/3``, ``trial/3/cell/<key>``, ``baseline/zero_shot``, and
``study`` for the study itself. ``cells``
are keys by which a run of an older version is known to be the same. Times are milliseconds since 1970. A
metric carries the time that the records know for it: telling it again changes nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, Required, TypedDict

Trial = int | str
"""A trial's number, or the name of a reference row."""

Metric = tuple[str, float, int, int]
"""Name, value, step, time."""


Status = Literal["FINISHED", "FAILED", "KILLED"]

STATUS: Mapping[str, Status] = {"complete": "FINISHED", "pruned": "FINISHED", "failed": "FAILED"}
"""Of the states in which a row ends; any other is ``KILLED``. A pruned trial did what it was asked to, and
its tag ``state`` says that it was pruned."""

STUDY_RUN = "study"
"""The run of the study itself."""


class File(TypedDict, total=False):
    """What a file holds: ``text``, or what lies at ``path`` on this machine."""

    text: str
    path: str


class Input(TypedDict):
    """A dataset: its name, the hash of its content, where it comes from, and numbers about it."""

    name: str
    digest: str
    source: str
    profile: dict[str, Any]


class Operation(TypedDict, total=False):
    """As it lies in the outbox: JSON."""

    op: Required[Literal["start", "log", "end"]]
    run: Required[str]
    parent: str | None
    name: str
    tags: dict[str, str]
    params: dict[str, str]
    cells: list[str]
    metrics: list[Metric]
    inputs: list[Input]
    files: dict[str, File]
    status: Status
    time: int


TRANSIENT_TAGS = ("state", "error")
"""Tags of how a run ended; they go when it is taken up again."""


def trial_run(trial: Trial) -> str:
    return f"trial/{trial}" if isinstance(trial, int) else f"baseline/{trial}"


def cell_run(trial: Trial, key: str) -> str:
    return f"{trial_run(trial)}/cell/{key}"


def row_of(run: str) -> str:
    """The run of the trial or row that ``run`` belongs to."""
    return run.split("/cell/")[0]


def start(
    run: str,
    *,
    name: str,
    time: int,
    parent: str | None = None,
    tags: Mapping[str, Any] | None = None,
    params: Mapping[str, Any] | None = None,
    cells: Sequence[str] = (),
) -> Operation:
    """Create a run or take it up again."""
    return {
        "op": "start",
        "run": run,
        "parent": parent,
        "name": name,
        "tags": {key: str(value) for key, value in (tags or {}).items() if value is not None},
        "params": {key: _text(value) for key, value in (params or {}).items()},
        "cells": list(cells),
        "time": time,
    }


def log(
    run: str,
    metrics: Iterable[Metric] = (),
    tags: Mapping[str, Any] | None = None,
    *,
    inputs: Sequence[Input] = (),
    files: Mapping[str, File] | None = None,
) -> Operation:
    """Metrics that are numbers, without those that are not finite; tags, inputs, files by their path."""
    kept = [metric for metric in metrics if math.isfinite(metric[1])]
    told: Operation = {
        "op": "log",
        "run": run,
        "metrics": kept,
        "tags": {k: str(v) for k, v in (tags or {}).items()},
    }
    if inputs:
        told["inputs"] = list(inputs)
    if files:
        told["files"] = dict(files)
    return told


def end(run: str, state: str, time: int) -> Operation:
    """Close a run. ``state`` is complete, pruned, cancelled, interrupted or failed."""
    status = STATUS.get(state, "KILLED")
    return {"op": "end", "run": run, "status": status, "time": time}


def milliseconds(stamp: str) -> int:
    """UTC ISO time to milliseconds since 1970."""
    return round(datetime.fromisoformat(stamp).timestamp() * 1000)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
