"""What a server, or a proxy before it, may answer to the news: nothing is lost, held up or told twice."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from orchestrator.tracking import Connection, Tracker, courier
from orchestrator.tracking.narration import Narration
from orchestrator.work.events import CellFailure, CellFinished, CellsKnown, CellState, EpochReached

AT = "2026-11-21T12:00:00.000000+00:00"


@pytest.fixture
def mlflow(importable: None, database: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    monkeypatch.setattr(courier, "BACKOFF", (0.05,))
    monkeypatch.setattr(courier, "LINGER", 0.01)
    from faulty_mlflow import FaultyMlflow

    server = FaultyMlflow(database("faulty"), tmp_path / "artifacts", monkeypatch)
    yield server
    server.close()


@pytest.fixture
def tracker(mlflow: Any, tmp_path: Path) -> Tracker:
    from orchestrator.tracking.mlflow.writer import MlflowWriter

    return Tracker(
        mlflow.uri,
        tmp_path / "outbox",
        connect=lambda: MlflowWriter(Connection(uri=mlflow.uri, experiment="demo", study="a1")),
        narration=Narration(study="demo"),
        fence=1,
    )


def tell(tracker: Tracker, trial: int, error: str | None = None) -> None:
    """A trial of one cell, from its beginning to its end."""
    key = f"k{trial}"
    cell = CellState(key=key, split="3-shot", seed="1", parameters=9)
    tracker.trial_started(trial, {"method": "mmap"}, started_at=AT)
    tracker.event(trial, CellsKnown(item_id="", cells=[cell]))
    for epoch in (1, 2):
        mean = epoch / 10
        reports = {key: {"epoch": epoch, "at": AT, "accuracy": mean}}
        told = EpochReached(item_id="", epoch=epoch, mean=mean, values=[mean], reports=reports)
        tracker.event(trial, told)
    if error is None:
        about: dict[str, Any] = {"metrics": {}, "parameters": 9, "seconds": {"train": 1.0}}
        tracker.event(trial, CellFinished(item_id="", key=key, at=AT, **about))
        tracker.trial_ended(trial, "complete", ended_at=AT, device_seconds=1.0)
    else:
        tracker.event(trial, CellFailure(item_id="", key=key, error=error, failure="raised"))
        tracker.trial_ended(trial, "failed", ended_at=AT, error=error)


def statuses(mlflow: Any) -> dict[str, str]:
    """Of all runs; fails if one is there twice."""
    from told_study import story_of

    # The short patience is the tracker's: what a test looks at may take its time on a busy machine.
    with patch.dict(os.environ, MLFLOW_HTTP_REQUEST_TIMEOUT="60"):
        return {run: about["status"] for run, about in story_of(mlflow.uri, "demo", "a1").items()}


WHOLE = {f"trial/{n}{part}": "FINISHED" for n in range(3) for part in ("", f"/cell/k{n}")}


def test_an_operation_that_a_proxy_refuses_is_tried_ten_times_and_holds_up_no_other(
    mlflow: Any, tracker: Tracker
) -> None:
    from faulty_mlflow import HTML

    tries: list[bytes] = []

    def firewall(path: str, body: bytes) -> Any:
        if b"<script>" in body:
            tries.append(body)
            return "400 Bad Request", HTML
        return None

    mlflow.fault = firewall
    tell(tracker, 0, error="<script>alert(1)</script>")
    tell(tracker, 1)
    told = tracker.close(120)
    assert told.refused == 2, "the cell's error and the trial's"
    alone = [body for body in tries if json.loads(body).get("tags") and not json.loads(body).get("metrics")]
    assert len(alone) >= 2 * courier.TRIES, "each alone, and once or twice with others"
    assert statuses(mlflow) == {
        "trial/0": "FAILED",
        "trial/0/cell/k0": "FAILED",
        "trial/1": "FINISHED",
        "trial/1/cell/k1": "FINISHED",
    }
    refused = Path(str(told.refused_file)).read_text()
    assert "nginx" in refused and "secret@" not in refused
    assert told.note is not None and "2 updates were refused" in told.note


@pytest.mark.parametrize("status", ["429 Too Many Requests", "500 Internal Error", "503 Gone", "403 No"])
def test_a_server_that_serves_nobody_is_waited_for(mlflow: Any, tracker: Tracker, status: str) -> None:
    tell(tracker, 0)
    assert tracker.flush(60)
    served = len(mlflow.asked)
    mlflow.fault = lambda path, body: (status, b"<html>not now</html>")
    began = time.perf_counter()
    tell(tracker, 1)
    tell(tracker, 2)
    assert time.perf_counter() - began < 5, "telling waited for the server"
    while len(mlflow.asked) <= served:
        assert not tracker.flush(0.5)
    mlflow.fault = lambda path, body: None
    told = tracker.close(120)
    assert (told.refused, told.note) == (0, None) and statuses(mlflow) == WHOLE


def test_a_server_that_hangs_is_waited_for(mlflow: Any, tracker: Tracker) -> None:
    goes_on = threading.Event()

    def hang(path: str, body: bytes) -> None:
        goes_on.wait(30)

    tell(tracker, 0)
    assert tracker.flush(60)
    mlflow.fault = hang
    tell(tracker, 1)
    tell(tracker, 2)
    assert not tracker.flush(3)
    mlflow.fault = lambda path, body: None
    goes_on.set()
    assert tracker.close(120).note is None and statuses(mlflow) == WHOLE


def test_a_run_whose_creation_was_not_answered_is_not_created_twice(mlflow: Any, tracker: Tracker) -> None:
    lost: list[str] = []

    def loses(path: str) -> bool:
        if path.endswith("runs/create") and len(lost) < 4:
            lost.append(path)
            return True
        return False

    mlflow.loses = loses
    for trial in range(3):
        tell(tracker, trial)
    assert tracker.close(120).note is None
    assert len(lost) == 4 and statuses(mlflow) == WHOLE


def test_a_server_that_fails_at_one_operation_alone_goes_on_with_the_others(
    mlflow: Any, tracker: Tracker
) -> None:
    failed = "500 Internal Server Error", b'{"error_code": "INTERNAL_ERROR"}'
    mlflow.fault = lambda path, body: failed if b"\\u0000" in body else None
    tell(tracker, 0, error="a zero \x00 that the database does not take")
    tell(tracker, 1)
    told = tracker.close(120)
    assert told.refused == 2 and "500 error" in Path(str(told.refused_file)).read_text()
    assert statuses(mlflow)["trial/1"] == "FINISHED"
