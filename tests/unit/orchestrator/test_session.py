"""What a session makes of news of its slots; no Ray, no slots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from orchestrator.cli.main import execute
from orchestrator.driver.pool_client import PoolClient
from orchestrator.driver.session import Session, SessionFailed
from orchestrator.driver.slot_memory import SlotMemory
from orchestrator.ledger import TrialRecord
from orchestrator.ledger.patient import StorageAway
from orchestrator.rows.scoring import scoring_rows
from orchestrator.slots.placement import SlotPlacement, SlotSize
from orchestrator.slots.slots import ResidentSlots
from orchestrator.study import load_plan
from orchestrator.work.events import Done, Event, Note, SlotGone, SlotMeasured, SlotStopped, SlotUp
from orchestrator.work.item import WorkItem
from orchestrator.work.shown import NoteShown, Shown, SlotShown


@pytest.fixture
def shown() -> list[Shown]:
    return []


@pytest.fixture
def session(
    idle_session: Callable[..., Session],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shown: list[Shown],
) -> Session:
    """With nothing to do; its slots are where a test says."""
    found = idle_session(load_plan("demo", [f"storage={tmp_path / 'runs'}", "name=unit"]), shown.append)
    places = [SlotPlacement("gpu-3:0", "a", "gpu-3"), SlotPlacement("gpu-3:1", "a", "gpu-3")]
    monkeypatch.setattr(ResidentSlots, "places", lambda self: places)
    crew, size = found.crew, SlotSize(1, 0.5)
    crew._slots = ResidentSlots(
        crew.settings(size, 1), size=size, storage=tmp_path, states=crew.states, pool=None, tell=crew.take
    )
    crew._memory = SlotMemory(0.5)
    return found


def test_a_slot_that_failed_too_often_is_shown_recorded_and_found_by_status(
    session: Session, shown: list[Shown], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped = SlotStopped(slot="gpu-3:0", error="CUDA error: ECC")
    session.take([stopped])
    session.take([replace(stopped, error="SlotStopped: told again by the run")])
    notes = [event.text for event in shown if isinstance(event, NoteShown)]
    assert notes == ["Slot gpu-3:0 is quarantined, it takes no more work: CUDA error: ECC"]
    assert session._reason_to_stop() is None, "the other slot goes on"
    assert execute(["status", "unit", "--storage", str(tmp_path / "runs")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Slot gpu-3:0 on gpu-3 is quarantined since" in said and "CUDA error: ECC" in said
    session.take([replace(stopped, slot="gpu-3:1")])
    assert "CUDA error: ECC" in str(session._reason_to_stop()), "no slot is left"


def test_slots_that_end_with_the_pool_are_not_blamed(session: Session, shown: list[Shown]) -> None:
    session._pool = SimpleNamespace(fault=RuntimeError("the actor died"))  # type: ignore[assignment]
    for slot in ("gpu-3:0", "gpu-3:1"):
        session.take([SlotStopped(slot=slot, error="ControllerError")])
    assert shown == [] and session.around.invocation.quarantined == []
    assert "the work queue crashed" in str(session._reason_to_stop())


@pytest.mark.parametrize("error", [RuntimeError("cancelling failed"), SystemExit(1)])
def test_a_reader_that_cannot_go_on_ends_the_session(
    session: Session, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def broken() -> None:
        raise error

    monkeypatch.setattr(PoolClient, "_ask", lambda *_, **__: [])
    monkeypatch.setattr(session._agenda, "after_events", broken)
    session._pool = PoolClient(None, session.take)
    session._pool._reader.join(10)
    assert session._pool.fault is error
    assert isinstance(session._reason_to_stop(), SessionFailed)


def test_memory_that_does_not_suffice_is_a_note_with_its_fix(session: Session, shown: list[Shown]) -> None:
    report = SlotMeasured(slot="gpu-3:0", peak=15 * 2**30, total=24 * 2**30)
    session.take([report, report])
    notes = [event.text for event in shown if isinstance(event, NoteShown)]
    assert len(notes) == 1 and notes[0].endswith("Fix: run again with slots.gpus=1")


def test_a_slot_that_went_with_its_node_is_shown_no_longer(session: Session, shown: list[Shown]) -> None:
    from orchestrator.terminal import SweepState

    session.take([SlotUp(slot="gpu-3:0")])
    session.take([SlotGone(slot="gpu-3:0")])
    state = SweepState()
    for event in shown:
        state.apply(event)
    assert (
        isinstance(shown[0], SlotShown)
        and shown[0].state == "idle"
        and state.slots == {}
        and not session.crew.states.up
    )


def test_when_the_session_ends_all_are_told_once_and_before_tune_takes_its_leave(session: Session) -> None:
    told: list[str] = []
    session._agenda.stop = lambda: told.append("work")  # type: ignore[method-assign]
    session._pool = SimpleNamespace(fault=None, stop=lambda: told.append("pool"))  # type: ignore[assignment]
    assert not session.should_stop() and told == []
    session._storage_fault = "/shared was away for 300 s"
    assert session.should_stop() and session.should_stop()
    assert told == ["work", "pool"]
    session.crew.take(SlotStopped(slot="gpu-3:0", error="the pool said so"))
    session.around.interrupt.request()
    assert "/shared was away" in str(session._reason_to_stop()), "what came first is the reason"


def confirm(session: Session) -> Event:
    """Lets the session score one row; the last event of that work."""
    point = session.plan.study.point.to_dict()
    row = TrialRecord(number=0, point=point, cells=[{"key": "k", "split": "6-shot", "seed": "1"}])
    session.rows.submit(scoring_rows(session.rows, session.ledger, [(0, row)], ""))
    return Done(item_id="confirm-0", state="complete")


def test_a_score_that_the_storage_does_not_give_back_ends_the_session(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise StorageAway(5, "the storage is away")

    done = confirm(session)
    monkeypatch.setattr(session.ledger, "tests", away)
    session.take([done])
    assert session.rows.live == 0
    assert str(session._reason_to_stop()).startswith("the storage is away. ")
    monkeypatch.setattr(session, "_start", lambda: None)
    monkeypatch.setattr(session, "_take_down", lambda: None)
    with pytest.raises(SessionFailed, match="the storage is away"):
        session.run()


def test_a_score_that_was_moved_aside_is_an_error_of_its_row_alone(session: Session) -> None:
    session.take([confirm(session)])
    assert session.rows.live == 0
    assert "cell k cannot be read" in session.unscored["0"]
    assert session._reason_to_stop() is None


def test_a_row_that_could_not_be_scored_is_no_success(session: Session, shown: list[Shown]) -> None:
    class Failing:
        """A pool whose worker cannot score."""

        fault = None

        def submit(self, item: WorkItem, needs: Sequence[str] = (), parts: Sequence[WorkItem] = ()) -> None:
            session.take([Done(item_id=item.item_id, state="failed", error="prompts are damaged")])

    row = TrialRecord(number=0, point=session.plan.study.point.to_dict(), cells=[{"key": "k"}])
    session.serve(Failing())  # type: ignore[arg-type]
    session.score([(0, row), ("zero_shot", row)], "end")
    assert session.unscored == {"0": "prompts are damaged", "zero_shot": "prompts are damaged"}
    assert NoteShown(text="Test images of 0: prompts are damaged") in shown


def test_what_a_worker_notes_reaches_the_user(session: Session, shown: list[Shown]) -> None:
    session.take([Note(item_id="confirm-0", text="trained again")])
    assert shown == [NoteShown(text="trained again")]
