from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from orchestrator.reports.ranking import report
from orchestrator.terminal import LineDisplay, LiveDisplay, SweepState, open_display
from orchestrator.terminal.format import accuracy, configuration, duration, integer, partition, share
from orchestrator.terminal.live import view

VALUES = {"prompt_length": 4, "source_rows": 2, "source_cols": 32, "scale_init": None, "lr": 0.02345}
EVENTS: list[dict[str, Any]] = [
    {
        "kind": "sweep",
        "study": "demo",
        "trials": 8,
        "epochs": 5,
        "cells_per_trial": 3,
        "slots": 2,
        "storage": "runs",
    },
    {"kind": "phase", "name": "search"},
    {"kind": "trial", "number": 0, "state": "running", "values": VALUES},
    {"kind": "trial", "number": 0, "state": "running", "values": VALUES, "parameters": 12_345},
    {"kind": "slot", "slot": "0", "state": "busy", "trial": 0},
    {"kind": "epoch", "trial": 0, "epoch": 5, "mean": 0.5},
    {"kind": "trial", "number": 0, "state": "complete", "mean": 0.5},
    {"kind": "trial", "number": 1, "state": "running", "values": {**VALUES, "prompt_length": 2}},
    {"kind": "sweep", "slots": 2},
    {"kind": "slot", "slot": "0", "state": "busy", "trial": 1},
    {"kind": "slot", "slot": "1", "state": "restarting", "what": "its worker died"},
    {"kind": "epoch", "trial": 1, "epoch": 3, "mean": 0.7},
    {"kind": "cell", "trial": 1, "key": "abcdef0123456789", "state": "failed", "error": "loss is NaN"},
    {"kind": "note", "text": "the tracking server does not answer"},
    {"kind": "of a later version", "x": 1},
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
    state.apply({"kind": "sweep", "study": "x", "trials": 6})
    state.apply({"kind": "trial", "number": 0, "state": "complete"})  # of an earlier run
    assert state.remaining is None
    for number in (1, 2):
        state.apply({"kind": "trial", "number": number, "state": "running"})
        state.apply({"kind": "slot", "slot": f"gpu-{number}:0", "state": "busy", "trial": number})
    seconds[0] = 20.0
    for number in (1, 2):
        state.apply({"kind": "trial", "number": number, "state": "complete"})
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


def results(**changes: Any) -> dict[str, Any]:
    def trial(number: int, mean: float | None, separable: bool | None, **more: Any) -> dict[str, Any]:
        return {
            "number": number,
            "state": "complete" if mean is not None else "failed",
            "config": {"method": "mmap", **VALUES, "lr": 0.01 * (number + 1)},
            "parameters": 12_345,
            "share": 0.0086,
            "val": None if mean is None else {"mean": mean, "std": 0.012, "n": 3},
            "test": None,
            "tasks": {},
            "separable_from_best": separable,
            "device_seconds": 61.2,
            "error": None,
            **more,
        }

    return {
        "study": "demo",
        "storage": "runs",
        "winner": 2,
        "trials": [
            trial(2, 0.47, None, test={"mean": 0.45, "std": 0.02, "n": 3}),
            trial(0, 0.46, False),
            trial(1, 0.3, True),
            trial(3, None, None, error="ValueError: loss is NaN\nTraceback"),
        ],
        "baselines": [
            {
                "name": "zero_shot",
                "parameters": 0,
                "share": 0.0,
                "val": {"mean": 0.22, "std": None, "n": 1},
                "test": None,
            },
            {
                "name": "zero_step",
                "parameters": 9,
                "share": None,
                "val": {"mean": 0.2, "std": 0.01, "n": 3},
                "test": None,
            },
        ],
        "cells": {"finished": 9, "failed": 3, "trained_now": 9},
        "comparison": {
            "confidence": 0.95,
            "rows": 3,
            "blocks": 3,
            "s": 0.012,
            "nu": 4,
            "q": 5.04,
            "threshold": 0.0349,
            "reason": None,
        },
        "timing": {"start_up": 12.0, "training": 300.0, "total": 320.0, "per_trial_overhead": 0.21},
        "looks": [{}],
        "extended_after_look": False,
        **changes,
    }


@pytest.mark.parametrize("width", [80, 100, 140])
def test_ranking_is_legible_at_any_width_without_colour(width: int) -> None:
    shown = text(report(results(), width=width, footer=["Runs:    here"]), width)
    for part in (
        "47.0 ± 1.2",
        "45.0 ± 2.0",
        "46.0 ± 1.2",
        "zero-shot",
        "rank 1 before training",
        "22.0",
        "Runs:    here",
    ):
        assert part in shown
    assert "2≈" in shown and "not significantly different from rank 1" in shown
    assert "3≈" not in shown
    assert "12 345 (0.86 %)" in shown
    assert "trial 3: ValueError: loss is NaN" in shown
    assert "in all 5 min 20 s, until the first cell 12 s, training 5 min 00 s" in " ".join(shown.split())
    assert "9 finished, 3 failed, 9 trained in this run" in shown
    assert ("device" in shown.splitlines()[2]) == (width >= 96)


def test_ranking_says_what_its_intervals_over_seeds_do_not_cover() -> None:
    gain = {"zero_shot": {"mean": 0.1, "low": 0.05, "high": 0.15, "n": 3}}
    assert "one finite pool of images" in text(report(results(test_gains=gain)))
    assert "finite pool" not in text(report(results(test_gains={})))


def test_ranking_shows_only_what_varies() -> None:
    shown = text(report(results()))
    assert "lr 0.03" in shown
    assert "b4" not in shown


def test_ranking_of_a_study_without_a_complete_trial() -> None:
    shown = text(report(results(trials=[], winner=None, baselines=[], looks=[])))
    assert "No trial is complete yet." in shown


def test_a_study_extended_after_a_look_says_so() -> None:
    assert "added after a look" in text(report(results(extended_after_look=True)))


def test_numbers_as_people_read_them() -> None:
    def plain(value: str) -> str:
        return value.replace("\N{NO-BREAK SPACE}", " ")

    assert plain(integer(129_744)) == "129 744"
    assert plain(share(129_744 / 149_620_737)) == "0.087 %"
    assert accuracy(0.4567, 0.0123, 3) == "45.7 ± 1.2 (3)"
    assert [duration(s) for s in (0.4, 59, 185, 7_620, 270_000, None)] == [
        "0.4 s",
        "59 s",
        "3 min 05 s",
        "2 h 07 min",
        "3 d 3 h",
        "–",
    ]
    assert (
        plain(configuration({"similarity": "dot", "groups": None, "augment": False}))
        == "dot, G auto, augment no"
    )
    assert partition([[0, 3], [1, 2]], ["a", "b", "c", "d"]) == "a+d | b+c"
    assert partition([[0, 1]]) == "0+1"
