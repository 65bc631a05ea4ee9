from __future__ import annotations

import io
import json
import re
from typing import Any

import pytest
from rich.console import Console

from orchestrator.terminal import LineDisplay, LiveDisplay, SweepState, open_display
from orchestrator.terminal.left import Left
from orchestrator.terminal.live import view
from orchestrator.terminal.snapshot import restored, snapshot
from orchestrator.terminal.words import left_in_words
from orchestrator.work.doing import Doing
from orchestrator.work.shown import (
    CellFailureShown,
    EpochShown,
    NoteShown,
    PhaseShown,
    Shown,
    SlotShown,
    SlotsShown,
    SweepShown,
    TrialShown,
    WorkShown,
)

VALUES = {"prompt_length": 4, "source_rows": 2, "source_cols": 32, "scale_init": None, "lr": 0.02345}
EVENTS: list[Shown] = [
    SweepShown(study="demo", trials=8, epochs=5, cells_per_trial=3, slots=2, storage="runs"),
    PhaseShown(name="search"),
    TrialShown(number=0, state="running", values=VALUES),
    TrialShown(number=0, state="running", values=VALUES, parameters=12_345),
    SlotShown(slot="0", state="busy", trial=0),
    EpochShown(trial=0, epoch=5, mean=0.5),
    TrialShown(
        number=0, state="complete", values=VALUES, parameters=12_345, mean=0.5, low=0.48, high=0.52, n=3
    ),
    TrialShown(number=1, state="running", values={**VALUES, "prompt_length": 2}),
    SlotsShown(count=2),
    SlotShown(slot="0", state="busy", trial=1),
    SlotShown(slot="1", state="restarting", what="its worker died"),
    EpochShown(trial=1, epoch=3, mean=0.7),
    CellFailureShown(trial=1, key="abcdef0123456789", error="loss is NaN", failure="nan"),
    NoteShown(text="the tracking server does not answer"),
]


def console(width: int = 100) -> Console:
    return Console(file=io.StringIO(), width=width, force_terminal=False, color_system=None)


def text(renderable: Any, width: int = 100) -> str:
    target = console(width)
    target.print(renderable)
    output = target.file.getvalue()  # type: ignore[attr-defined]
    assert all(len(line) <= width for line in output.splitlines())
    return output.replace("\N{NO-BREAK SPACE}", " ")


def test_live_view_shows_slots_trials_and_the_best() -> None:
    clock = iter(range(0, 10_000, 10))
    state = SweepState(clock=lambda: float(next(clock)))
    for event in EVENTS:
        state.apply(event)
    shown = text(view(state))
    assert "1 of 8 trials" in shown and "1 running" in shown
    assert "trial 1" in shown and "b2 m2 n32" in shown and "●●●○○" in shown
    assert "its worker died" in shown
    assert "best so far: 50.0 % (48.0 to 52.0), trial 0" in shown
    assert "Ctrl-C" in shown
    assert "left" in shown


def test_a_running_trial_is_not_the_best_however_well_it_does() -> None:
    state = SweepState()
    for event in EVENTS:
        state.apply(event)
    assert state.best is not None and state.best.number == 0


def test_time_left_follows_the_pace_of_this_run() -> None:
    seconds = [0.0]
    state = SweepState(clock=lambda: seconds[0])
    state.apply(SweepShown(study="x", trials=6))
    state.apply(TrialShown(number=0, state="complete", values=VALUES))  # of an earlier run
    assert state.left is None
    for number in (1, 2):
        state.apply(TrialShown(number=number, state="running", values=VALUES))
        state.apply(SlotShown(slot=f"gpu-{number}:0", state="busy", trial=number))
    seconds[0] = 20.0
    for number in (1, 2):
        state.apply(TrialShown(number=number, state="complete", values=VALUES))
    assert state.left == Left(seconds=30.0, low=30.0, high=30.0), "they took equally long"


def test_time_left_says_how_sure_it_is() -> None:
    seconds = [0.0]
    state = SweepState(clock=lambda: seconds[0])
    state.apply(SweepShown(study="x", trials=10))
    for number, took in enumerate((20.0, 40.0, 30.0)):
        state.apply(SlotShown(slot="0", state="busy", trial=number))
        seconds[0] += took
        state.apply(TrialShown(number=number, state="complete", values=VALUES))
        if number == 0:
            assert state.left == Left(seconds=180.0), "one trial tells nothing of how they differ"
    left = state.left
    assert left is not None and left.low is not None and left.high is not None
    assert left.seconds == 210.0 and left.low < 160 and left.high > 260
    assert left_in_words(left) in text(view(state))


def test_the_best_of_earlier_runs_is_known_from_the_start() -> None:
    state = SweepState()
    best = TrialShown(number=3, state="complete", values=VALUES, mean=0.6, low=0.55, high=0.65, n=3)
    state.apply(SweepShown(study="x", trials=10, done=4, best=best))
    assert state.ended == 4 and "4 of 10 trials" in text(view(state))
    assert "60.0 % (55.0 to 65.0), trial 3" in text(view(state))
    state.apply(TrialShown(number=5, state="complete", values=VALUES, mean=0.5))
    assert state.best is not None and state.best.number == 3


def test_a_trial_that_violates_a_constraint_is_not_the_best() -> None:
    state = SweepState()
    state.apply(TrialShown(number=0, state="complete", values=VALUES, mean=0.5))
    state.apply(TrialShown(number=1, state="complete", values=VALUES, mean=0.9, violated=("parameters < 9",)))
    assert state.best is not None and state.best.number == 0


def test_slots_say_what_they_do_and_how_far_they_are() -> None:
    state = SweepState()
    for event in EVENTS:
        state.apply(event)
    doing = Doing(
        stage="training", epoch=2, epochs=5, step=12, steps=40, cells=3, gpu_busy=0.87, gpu_bytes=10**10
    )
    state.apply(WorkShown(slot="0", doing=doing))
    shown = text(view(state, 160), 160)
    for part in ("epoch 2 of 5, step 12 of 40, 3 cells", "GPU 87 %, 10.0 GB", "b2 m2 n32"):
        assert part in shown
    narrow = text(view(state, 40), 40)
    assert "slot 0" in narrow and "trial 1" in narrow


def test_epochs_are_counted_by_the_recipe_of_each_trial() -> None:
    target, state = console(), SweepState()
    events = [
        SweepShown(study="demo", trials=2, epochs=5, slots=1),
        TrialShown(number=0, state="running", values=VALUES, parameters=7, epochs=300),
        SlotShown(slot="0", state="busy", trial=0),
        EpochShown(trial=0, epoch=99, mean=None),
    ]
    with open_display(target) as display:
        for event in events:
            display.apply(event)
            state.apply(event)
    assert "epoch trial=0 epoch=99/300" in target.file.getvalue()  # type: ignore[attr-defined]
    assert "99/300" in text(view(state, 100))
    assert "epoch 99 of 300 done" in text(view(state, 60), 60)
    assert restored(json.loads(json.dumps(snapshot(state)))).epochs_of(0) == 300


def test_hundreds_of_short_epochs_do_not_have_a_line_each() -> None:
    target, seconds = console(), [0.0]
    with LineDisplay(target, clock=lambda: seconds[0]) as display:
        display.apply(TrialShown(number=0, state="running", values=VALUES, parameters=7, epochs=300))
        for epoch in range(1, 301):
            seconds[0] = 0.1 * epoch
            display.apply(EpochShown(trial=0, epoch=epoch, mean=0.5 if epoch in (101, 102, 300) else None))
        display.apply(EpochShown(trial=1, epoch=1, mean=None))
    said = re.findall(r"epoch trial=(\d) epoch=(\d+)", target.file.getvalue())  # type: ignore[attr-defined]
    assert [int(epoch) for trial, epoch in said if trial == "0"] == [1, 51, 101, 102, 152, 202, 252, 300]
    assert ("1", "1") in said, "another trial has lines of its own"


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(open_display(Console(file=io.StringIO(), force_terminal=True)), LineDisplay)


def test_lines_say_every_event_that_matters_without_escape_codes() -> None:
    target = console()
    with open_display(target) as display:
        assert isinstance(display, LineDisplay)
        for event in EVENTS:
            display.apply(event)
    output = target.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b" not in output
    assert output.count("trial=0 state=running") == 1
    assert all(re.match(r"2\d{3}-\d\d-\d\dT\d\d:\d\d:\d\dZ [a-z]+[ :]", line) for line in output.splitlines())
    for part in (
        "run study=demo trials=8 done=0 cells=3 epochs=5 slots=2 records=runs",
        "phase phase=search: searching",
        "trial trial=0 state=running parameters=12345: b4 m2 n32, σ auto, lr 0.023",
        "epoch trial=0 epoch=5/5 accuracy=50.0",
        "trial trial=0 state=complete accuracy=50.0 low=48.0 high=52.0 seeds=3 ended=1/8",
        "best trial=0 accuracy=50.0 low=48.0 high=52.0 seeds=3: 50.0 % (48.0 to 52.0), trial 0, b4 m2",
        "slot slot=1 state=restarting: its worker died",
        "cell trial=1 cell=abcdef01 failure=nan: loss is NaN",
        "note: the tracking server does not answer",
    ):
        assert part in output


def test_a_terminal_gets_the_live_view() -> None:
    target = Console(file=io.StringIO(), force_terminal=True, width=100)
    with open_display(target) as display:
        assert isinstance(display, LiveDisplay)
        for event in EVENTS:
            display.apply(event)
