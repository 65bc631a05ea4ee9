"""A run followed from its records: the same view as its own terminal, and a dead driver is said."""

from __future__ import annotations

import io
import json
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from orchestrator.cli.main import execute
from orchestrator.driver.following import SAY_S, follow
from orchestrator.driver.showing_live import ShowingLive
from orchestrator.ledger import Invocation, StudyStore
from orchestrator.ledger.live_record import LiveRecord
from orchestrator.ledger.watch import INTERVAL, PATIENCE
from orchestrator.terminal.live import view
from orchestrator.terminal.snapshot import restored, snapshot
from orchestrator.terminal.state import SweepState
from orchestrator.work.doing import Doing
from orchestrator.work.shown import (
    EpochShown,
    NoteShown,
    PhaseShown,
    Shown,
    SlotShown,
    SweepShown,
    TrialShown,
    WorkShown,
)

STORY: list[Shown] = [
    SweepShown(study="demo", trials=9, epochs=5, cells_per_trial=3, slots=2, done=2),
    PhaseShown(name="search"),
    SlotShown(slot="0", state="busy", trial=2),
    EpochShown(trial=2, epoch=5, mean=0.5),
    TrialShown(
        number=2, state="complete", values={"lr": 0.1}, parameters=10, mean=0.5, low=0.4, high=0.6, n=3
    ),
    SlotShown(slot="0", state="busy", trial=3),
    SlotShown(slot="1", state="silent", what="not responding"),
    EpochShown(trial=3, epoch=1, mean=0.3),
    WorkShown(slot="0", doing=Doing(stage="training", epoch=2, epochs=5, step=3, steps=9, cells=3)),
]


class Shows:
    """A display that remembers."""

    def __init__(self) -> None:
        self.events: list[Shown] = []
        self.states: list[SweepState] = []

    def apply(self, event: Shown) -> None:
        self.events.append(event)

    def show(self, state: SweepState) -> None:
        self.states.append(state)

    @property
    def notes(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, NoteShown)]


@pytest.fixture(params=["a folder", "an object store"])
def store(tmp_path: Path, request: pytest.FixtureRequest) -> StudyStore:
    root = str(tmp_path / "runs")
    if request.param == "an object store":
        root = f"fsspec+memory://{secrets.token_hex(4)}/runs"
    store = StudyStore(root, "demo")
    store.save_study({"name": "demo", "storage": root})
    return store


def text(state: SweepState) -> str:
    console = Console(file=io.StringIO(), width=120, color_system=None)
    console.print(view(state, 120))
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_a_state_looks_the_same_after_it_was_written_and_read_by_another_clock() -> None:
    seconds = [1000.0]
    state = SweepState(lambda: seconds[0])
    for event in STORY:
        seconds[0] += 20.0
        state.apply(event)
    seconds[0] += 5.0
    read = restored(json.loads(json.dumps(snapshot(state))), lambda: 7.0)
    assert text(read) == text(state)
    for part in ("3 of 9 trials", "epoch 2 of 5, step 3 of 9", "50.0 % (40.0 to 60.0), trial 2", "left"):
        assert part in text(read)
    read.apply(TrialShown(number=3, state="complete", values={"lr": 0.2}, mean=0.7))
    assert read.best is not None and read.best.number == 3 and read.ended == 4


def at_each_look(*steps: Callable[[], object]) -> Callable[[float], None]:
    left = list(steps)

    def pause(seconds: float) -> None:
        assert left, "nothing more was to be waited for"
        left.pop(0)()

    return pause


def test_events_are_shown_as_they_come_and_the_end_is_said(store: StudyStore) -> None:
    shows, seen = Shows(), list[Shown]()
    with store.driver_lease(invocation="r1", settle=0.0) as lease:
        fence = lease.take()
        store.save_invocation(invocation := Invocation(id="r1", fence=fence))
        live = ShowingLive(LiveRecord(store.storage, "demo"), fence, write_s=3600.0)
        progress = live.beside(seen.append)

        def go_on(*events: Shown) -> None:
            for event in events:
                progress(event)
            live.write()

        def end() -> None:
            live.close()
            invocation.outcome = "complete"
            store.save_invocation(invocation)
            lease.release()

        go_on(*STORY)
        later = EpochShown(trial=3, epoch=2, mean=0.4)
        steps = at_each_look(lambda: go_on(later), lambda: None, end)
        assert follow(store, shows, pause=steps) == "complete"
    assert seen == [*STORY, later]
    assert shows.events == [
        NoteShown(text=shows.notes[0]),
        later,
        NoteShown(text="The run has ended: complete"),
    ]
    assert shows.notes[0].startswith("Following process")
    assert "step 3 of 9" in text(shows.states[0])


def test_a_driver_that_gives_no_sign_of_life_is_said_and_then_counts_as_dead(store: StudyStore) -> None:
    shows, now = Shows(), [0.0]
    lease = store.driver_lease(invocation="r1", interval=3600.0, settle=0.0)  # it never beats again
    fence = lease.take()
    lease._stop.set()
    path = f"studies/demo/driver/{fence}.json"
    holding = json.loads(store.storage.read(path) or b"")
    holding["interval"], holding["owner"]["host"] = INTERVAL, "far"
    store.storage.write(path, json.dumps(holding).encode())
    store.save_invocation(Invocation(id="r1", fence=fence))

    def pause(seconds: float) -> None:
        now[0] += seconds

    assert follow(store, shows, pause=pause, clock=lambda: now[0]) == "dead"
    assert INTERVAL * PATIENCE <= now[0] <= 2 * INTERVAL * PATIENCE
    assert any(f"No heartbeat from the driver for {SAY_S + 1:.0f} s" in note for note in shows.notes)
    assert "is dead" in shows.notes[-1]


def test_without_a_run_there_is_nothing_to_follow(
    store: StudyStore, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert follow(store, Shows(), pause=lambda seconds: pytest.fail("it waits")) == "none"


def test_a_storage_that_takes_nothing_holds_up_no_run() -> None:
    begun, may_end = threading.Event(), threading.Event()

    class Slow(LiveRecord):
        def __init__(self) -> None: ...

        def forget_before(self, fence: int) -> None:
            raise OSError("away")

        def write(self, fence: int, document: Any) -> None:
            begun.set()
            may_end.wait(30)
            raise OSError("away")

    shown: list[Shown] = []
    live = ShowingLive(Slow(), 1, write_s=0.01)
    progress = live.beside(shown.append)
    progress(STORY[0])
    assert begun.wait(30)
    for event in STORY[1:]:  # while a record is being written
        progress(event)
    assert shown == STORY
    may_end.set()
    live.close()
    assert not live._thread.is_alive()


def test_a_record_of_another_version_is_left_alone(store: StudyStore) -> None:
    shows = Shows()
    with store.driver_lease(invocation="r1", settle=0.0) as lease:
        fence = lease.take()
        store.save_invocation(Invocation(id="r1", fence=fence, outcome="failed"))
        LiveRecord(store.storage, "demo").write(fence, {"at": "", "state": {}, "events": [[1, {}]]})
        assert follow(store, shows, pause=lambda _: lease.release()) == "failed"
    assert shows.states == []


def test_records_of_earlier_drivers_go(store: StudyStore) -> None:
    record = LiveRecord(store.storage, "demo")
    for fence in (1, 2, 3):
        record.write(fence, {})
    record.forget_before(3)
    assert store.storage.names("studies/demo/live") == ["3.json"]


def test_status_follow_of_a_study_that_nobody_runs_shows_how_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from orchestrator.study import load_study

    monkeypatch.chdir(tmp_path)
    store = StudyStore("runs", "demo")
    store.save_study(load_study("demo").to_plain())
    assert execute(["status", "demo", "--follow"]) == 0
    assert "of 10 asked for" in capsys.readouterr().out
