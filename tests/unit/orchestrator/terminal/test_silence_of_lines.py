"""No silence of the plain form is longer than 15 s, whatever a run is at: replayed with a made clock."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from orchestrator.terminal import Activity, LineDisplay
from orchestrator.work.doing import Doing
from orchestrator.work.shown import (
    EpochShown,
    PhaseShown,
    Shown,
    SlotShown,
    SlotsShown,
    SweepShown,
    TrialShown,
    WorkShown,
)

LONGEST_S = 15.0
START = datetime(2026, 1, 1, tzinfo=UTC)
VALUES = {"lr": 0.01}


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds)


def story(quiet: float) -> Iterator[tuple[float, Shown]]:
    """A run whose every phase is silent for ``quiet`` seconds: seconds to wait, and what is shown then."""
    yield 0.0, PhaseShown(name="checking")
    yield quiet, SweepShown(study="demo", trials=2, epochs=2, cells_per_trial=3, slots=2)
    yield 0.0, PhaseShown(name="ray")
    yield quiet, PhaseShown(name="slots")
    yield 0.0, SlotsShown(count=2)
    yield 0.1, PhaseShown(name="search")
    yield 0.0, TrialShown(number=0, state="running", values=VALUES)
    yield quiet, SlotShown(slot="0", state="idle")
    for stage in ("importing", "backbone", "data"):
        yield quiet, WorkShown(slot="0", doing=Doing(stage=stage))  # type: ignore[arg-type]
    yield quiet, SlotShown(slot="0", state="busy", what="probe")
    yield quiet, WorkShown(slot="0", doing=Doing(stage="probe", epoch=1, epochs=5, step=3, steps=9, cells=3))
    yield quiet, SlotShown(slot="0", state="busy", trial=0)
    yield 0.0, TrialShown(number=0, state="running", values=VALUES, parameters=10)
    for epoch in (1, 2):
        for step in (1, 2):
            doing = Doing(stage="training", epoch=epoch, epochs=2, step=step, steps=2, cells=3)
            yield quiet, WorkShown(slot="0", doing=doing)
        yield quiet, WorkShown(slot="0", doing=Doing(stage="validation", epoch=epoch, epochs=2, step=1))
        yield quiet, EpochShown(trial=0, epoch=epoch, mean=0.5)
    yield 0.0, TrialShown(number=0, state="complete", values=VALUES, parameters=10, mean=0.5)
    for phase in ("baselines", "finalists", "stopping", "tracking", "results", "done"):
        yield quiet, PhaseShown(name=phase)  # type: ignore[arg-type]


def times(lines: str) -> list[datetime]:
    return [datetime.fromisoformat(line.split(" ")[0]) for line in lines.splitlines()]


@pytest.mark.parametrize("quiet", [0.5, 9.0, 14.0, 33.0, 180.0])
def test_no_phase_of_a_run_is_silent_for_longer_than_fifteen_seconds(quiet: float) -> None:
    clock, file = Clock(), io.StringIO()
    display = LineDisplay(Console(file=file, width=300), clock=clock, now=clock.now)
    for wait, event in story(quiet):
        until = clock.seconds + wait
        while (due := clock.seconds + display.lines.look()) <= until:
            clock.seconds = due
        clock.seconds = until
        display.apply(event)
    said = times(file.getvalue())
    gaps = [(b - a).total_seconds() for a, b in itertools.pairwise(said)]
    assert max(gaps) <= LONGEST_S, file.getvalue()
    assert (said[-1] - said[0]).total_seconds() == pytest.approx(clock.seconds, abs=1.0)


def test_what_goes_on_is_said_with_where_it_is_and_for_how_long() -> None:
    clock, file = Clock(), io.StringIO()
    display = LineDisplay(Console(file=file, width=300), clock=clock, now=clock.now)
    for event in (
        SweepShown(study="demo", trials=20, epochs=5, slots=1),
        PhaseShown(name="search"),
        SlotShown(slot="0", state="busy", trial=3),
        WorkShown(slot="0", doing=Doing(stage="training", epoch=2, epochs=5, step=7, steps=40, cells=3)),
    ):
        display.apply(event)
    clock.seconds = 42.0
    display.lines.look()
    assert file.getvalue().splitlines()[-1] == (
        "2026-01-01T00:00:42Z still phase=search seconds=42 elapsed=42 ended=0/20: slot 0 trial 3, training, "
        "epoch 2 of 5, step 7 of 40, 3 cells for 42 s"
    )


def test_a_thread_says_what_goes_on_while_nobody_else_does(monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrator.terminal import stamped

    monkeypatch.setattr(stamped, "QUIET_S", 0.0)
    said = io.StringIO()
    lines = stamped.StampedLines(Console(file=said), lambda: "still")
    with lines:
        while "still" not in said.getvalue():
            lines._over.wait(0.001)
    assert not lines._thread.is_alive()


def test_other_long_work_says_every_ten_seconds_how_far_it_is() -> None:
    clock, file = Clock(), io.StringIO()
    shown = Activity(Console(file=file, width=200), "Exporting", clock=clock, now=clock.now)
    shown.at("scoring recorded images")
    for second in range(1, 31):
        clock.seconds = float(second)
        shown.lines.look()
    assert file.getvalue().splitlines() == [
        f"2026-01-01T00:00:{s}Z still elapsed={s}: Exporting, scoring recorded images, {s} s so far"
        for s in (10, 20, 30)
    ]
