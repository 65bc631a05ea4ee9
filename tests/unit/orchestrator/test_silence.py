"""Pool and slots that do not answer: the user learns of it once, and once when they are back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.cli.main import execute
from orchestrator.driver.pool_client import ANSWER_S, SLICE_S, PoolClient
from orchestrator.driver.session import Session
from orchestrator.ledger import StudyStore
from orchestrator.study import load_plan
from orchestrator.terminal import SweepState
from orchestrator.work.events import Event, Leased, Silence, SlotGone, SlotUp
from orchestrator.work.shown import NoteShown, Shown


@pytest.fixture
def shown() -> list[Shown]:
    return []


@pytest.fixture
def session(idle_session: Callable[..., Session], tmp_path: Path, shown: list[Shown]) -> Iterable[Session]:
    plan = load_plan("demo", [f"storage={tmp_path / 'runs'}", "name=unit"])
    lease = StudyStore(plan.study.storage, "unit").driver_lease()
    lease.take()
    try:
        yield idle_session(plan, shown.append)
    finally:
        lease.release()


def notes(shown: list[Shown]) -> list[str]:
    return [event.text for event in shown if isinstance(event, NoteShown)]


def status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert execute(["status", "unit", "--storage", str(tmp_path / "runs")]) == 0
    return " ".join(capsys.readouterr().out.split())


def test_a_slot_that_stands_still_is_named_shown_and_found_by_status_until_it_is_back(
    session: Session, shown: list[Shown], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session.take([SlotUp(slot="gpu-3:0")])
    session.take([Leased(item_id="trial-4", slot="gpu-3:0")])
    session.take([Silence(slot="gpu-3:0", seconds=25.4, patience=60.0)])
    assert len(notes(shown)) == 1
    assert notes(shown)[0].startswith("Slot gpu-3:0 has not responded for 25 s: ")
    assert "after 60 s its work" in notes(shown)[0]
    state = SweepState()
    for event in shown:
        state.apply(event)
    assert state.slots["gpu-3:0"].state == "silent"
    assert "Slot gpu-3:0 has not responded since 20" in status(tmp_path, capsys)
    session.take([Silence(slot="gpu-3:0", over=True, seconds=45.2, patience=60.0)])
    assert notes(shown)[1:] == ["Slot gpu-3:0 responds again, after 45 s"]
    state.apply(shown[-1])
    assert state.slots["gpu-3:0"].state == "busy" and state.slots["gpu-3:0"].trial == 4
    assert "not responded" not in status(tmp_path, capsys)


def test_a_silent_slot_whose_node_is_gone_is_waited_for_no_longer(session: Session) -> None:
    session.take([Silence(slot="1", seconds=25.0, patience=60.0)])
    assert [entry["name"] for entry in session.around.invocation.silent] == ["1"]
    session.take([SlotGone(slot="1")])
    assert session.around.invocation.silent == []


class Pool:
    """A pool actor whose answers to ``events`` come after so many waits; then the reader may end."""

    def __init__(self, *waits: int) -> None:
        self._waits, self._left = iter(waits), 0
        self.over = threading.Event()
        self.events = SimpleNamespace(remote=self._ask)

    def _ask(self, *_: Any) -> None:
        try:
            self._left = next(self._waits)
        except StopIteration:
            self._left = 0
            self.over.set()

    def wait(self, reference: Any, seconds: float) -> list[Any]:
        if self._left:
            self._left -= 1
            raise TimeoutError
        return []


def read(pool: Pool) -> tuple[list[Event], BaseException | None]:
    """What its client told, and how the reading ended."""
    told: list[Event] = []
    client = PoolClient(pool, told.extend, wait=pool.wait)
    ended = threading.Event()
    watch = threading.Thread(target=lambda: (client._reader.join(), ended.set()))
    watch.start()
    while not (pool.over.wait(0.01) or ended.is_set()):
        continue
    client.close()
    return told, client.fault


def test_a_pool_that_does_not_answer_is_told_once_and_once_when_it_does() -> None:
    told, fault = read(Pool(0, 45, 3, 0))
    assert told == [
        Silence(slot=None, seconds=20.0, patience=ANSWER_S),
        Silence(slot=None, over=True, seconds=45.0, patience=ANSWER_S),
    ]
    assert fault is None


def test_a_pool_that_does_not_answer_at_all_ends_the_reading() -> None:
    told, fault = read(Pool(int(ANSWER_S / SLICE_S) + 1))
    assert told == [Silence(slot=None, seconds=20.0, patience=ANSWER_S)]
    assert isinstance(fault, TimeoutError)


def test_a_pool_that_does_not_answer_is_named_and_found_by_status(
    session: Session, shown: list[Shown], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session.take([Silence(slot=None, seconds=20.0, patience=60.0)])
    assert notes(shown)[0].startswith("The work queue has not answered for 20 s: ")
    assert "The work queue has not responded since 20" in status(tmp_path, capsys)
    session.take([Silence(slot=None, over=True, seconds=45.0, patience=60.0)])
    assert notes(shown)[1:] == ["The work queue responds again, after 45 s"]
    assert "not responded" not in status(tmp_path, capsys)
