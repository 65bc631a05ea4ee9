"""A driver that finds another one at its study ends: it says who, exits with an error, records nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.cli.main import execute
from orchestrator.driver import run_study, study_agenda
from orchestrator.driver.invocation import Options
from orchestrator.driver.session import Session
from orchestrator.driver.todo import Todo
from orchestrator.ledger import StudyStore, TrialRecord
from orchestrator.ledger.documents import encode
from orchestrator.ledger.holding import Holding, Owner, current_fence
from orchestrator.study import load_plan


class Overtaken:
    """Is stopped for an hour, in which another driver takes the study over and finishes trial 0."""

    def __init__(self, session: Session, todo: Todo) -> None:
        self._session, self._store, self._lease = session, session.around.store, session.around.lease

    def work(self) -> None:
        self._store.save_trial(TrialRecord(number=0, fence=self._lease.fence))
        other = StudyStore(self._store.storage.root, self._store.name)
        fence = current_fence(other.storage, f"studies/{other.name}/driver") + 1
        owner = replace(Owner.this_process("later"), host="gpu-7", namespace="gpu-7", pid=4242, token="other")
        at = "2026-01-01T00:00:00+00:00"
        holding = Holding(
            fence=fence, owner=owner, acquired_at=at, heartbeat_at=at, beats=1, interval=5.0, released=False
        )
        other.storage.write(f"studies/{other.name}/driver/{fence}.json", encode(holding.to_dict()))
        other.save_trial(TrialRecord(number=0, state="complete", value=0.5, fence=fence))
        OVERTAKEN.update({e.path: other.storage.read(e.path) for e in other.storage.everything()})
        self._lease._beaten -= 3600.0
        self._store.save_trial(TrialRecord(number=0, state="failed", fence=self._lease.fence))
        self._session.until(lambda: False)

    def after_events(self) -> None: ...
    def stop(self) -> None: ...
    def close(self) -> None:
        self._store.save_trial(TrialRecord(number=0, fence=self._lease.fence))  # what Trials.close does


OVERTAKEN: dict[str, bytes | None] = {}


@pytest.fixture(autouse=True)
def overtaken(monkeypatch: pytest.MonkeyPatch) -> None:
    OVERTAKEN.clear()
    monkeypatch.setattr(study_agenda, "StudyAgenda", Overtaken)
    monkeypatch.setattr(Session, "_start", lambda session: None)
    monkeypatch.setattr(Session, "_take_down", lambda session: session._agenda.close())


def test_it_says_who_took_over_and_records_nothing_more(tmp_path: Path) -> None:
    plan = load_plan("demo", [f"storage={tmp_path / 'runs'}", "name=unit", "search.trials=1"])
    outcome = run_study(plan, options=Options(tracked=False))
    assert outcome.state == "failed" and outcome.error is not None
    assert "process 4242 on gpu-7 (invocation later)" in outcome.error
    status = f"orchestrator status unit --storage {tmp_path / 'runs'}"
    assert outcome.fix == f"leave it to the other: {status}"
    store = StudyStore(plan.study.storage, "unit")
    assert [(t.state, t.value) for t in store.load_trials()] == [("complete", 0.5)]
    assert {e.path: store.storage.read(e.path) for e in store.storage.everything()} == OVERTAKEN


def test_its_command_exits_with_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    overrides = [f"storage={tmp_path / 'runs'}", "name=unit", "search.trials=1"]
    assert execute(["sweep", "demo", *overrides]) == 1
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "process 4242 on gpu-7" in said and "orchestrator status unit" in said
