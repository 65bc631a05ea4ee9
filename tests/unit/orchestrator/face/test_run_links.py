"""Addresses of runs as a report names its rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.face.run_links import run_links
from orchestrator.face.stored import Stored
from orchestrator.ledger import Ledger, StudyStore
from orchestrator.study import load_study
from orchestrator.tracking import Connection, TrackingError
from orchestrator.tracking.mlflow import page_api


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    study = load_study("demo", [f"storage={tmp_path}", "tracking.uri=http://127.0.0.1:9"])
    return Stored(study, StudyStore(tmp_path, "demo"), Ledger(tmp_path))


def test_trials_go_by_number_and_reference_rows_by_name(
    stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {"trial/12": "a", "baseline/zero_shot": "b", "baseline/zero_step-96104382": "c", "study": "d"}
    monkeypatch.setattr(page_api, "run_addresses", lambda page, to: found)
    assert run_links(stored) == {"12": "a", "zero_shot": "b", "zero_step": "c"}


def test_a_server_that_does_not_answer_has_no_addresses(
    stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(page: str, to: Connection) -> dict[str, str]:
        raise TrackingError("away")

    monkeypatch.setattr(page_api, "run_addresses", away)
    assert run_links(stored) == {}
