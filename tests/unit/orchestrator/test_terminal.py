from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from orchestrator.terminal import LineDisplay, LiveDisplay, SweepState, open_display
from orchestrator.terminal.live import view
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
)

VALUES = {"prompt_length": 4, "source_rows": 2, "source_cols": 32, "scale_init": None, "lr": 0.02345}
EVENTS: list[Shown] = [
    SweepShown(study="demo", trials=8, epochs=5, cells_per_trial=3, slots=2, storage="runs"),
    PhaseShown(name="search"),
    TrialShown(number=0, state="running", values=VALUES),
    TrialShown(number=0, state="running", values=VALUES, parameters=12_345),
    SlotShown(slot="0", state="busy", trial=0),
    EpochShown(trial=0, epoch=5, mean=0.5),
    TrialShown(number=0, state="complete", values=VALUES, parameters=12_345, mean=0.5),
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
    assert "best so far: 50.0 %" in shown and "12 345 parameters" in shown
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
    assert state.remaining is None
    for number in (1, 2):
        state.apply(TrialShown(number=number, state="running", values=VALUES))
        state.apply(SlotShown(slot=f"gpu-{number}:0", state="busy", trial=number))
    seconds[0] = 20.0
    for number in (1, 2):
        state.apply(TrialShown(number=number, state="complete", values=VALUES))
    assert state.remaining == 30.0


def test_lines_say_every_event_that_matters_without_escape_codes() -> None:
    target = console()
    with open_display(target) as display:
        assert isinstance(display, LineDisplay)
        for event in EVENTS:
            display.apply(event)
    output = target.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b" not in output
    assert output.count("trial 0 starts") == 1
    for part in (
        "study demo: 8 trials of 3 cells",
        "trial 0 starts: b4 m2 n32, σ auto, lr 0.023, 12 345 parameters",
        "trial 0: epoch 5 of 5, 50.0 %",
        "trial 0 complete at 50.0 % (1 of 8",
        "slot 1 restarting: its worker died",
        "cell abcdef01 failed: loss is NaN",
        "the tracking server does not answer",
    ):
        assert part in output


def test_a_terminal_gets_the_live_view() -> None:
    target = Console(file=io.StringIO(), force_terminal=True, width=100)
    with open_display(target) as display:
        assert isinstance(display, LiveDisplay)
        for event in EVENTS:
            display.apply(event)
