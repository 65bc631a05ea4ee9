"""A state as JSON and back, for those who follow a run from elsewhere; times travel as ages."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from orchestrator.terminal.left import Pace
from orchestrator.terminal.state import SlotState, SweepState, TrialProgress
from orchestrator.work.doing import Doing

PLAIN = ("study", "target", "epochs", "cells_per_trial", "done_before", "storage", "tracking", "phase")
"""Attributes that travel as they are."""


def snapshot(state: SweepState) -> dict[str, Any]:
    """The state at this moment, JSON-ready; notes are left out, which travel as events."""
    now = state.now
    return {
        **{name: getattr(state, name) for name in PLAIN},
        "elapsed": state.elapsed,
        "phase_age": state.age(state.phase_since),
        "counts": dict(state.counts),
        "pace": state.pace.to_dict(now),
        "trials": [_trial(trial, now) for trial in list(state.trials.values())],
        "best": None if state.best is None else _trial(state.best, now),
        "slots": [{**asdict(slot), "since": now - slot.since} for slot in list(state.slots.values())],
    }


def restored(data: Mapping[str, Any], clock: Callable[[], float] = time.monotonic) -> SweepState:
    """The state of a snapshot that was taken just now. Raises KeyError or TypeError if it is none."""
    state = SweepState(clock)
    now = clock()
    for name in PLAIN:
        setattr(state, name, data[name])
    state.began, state.phase_since = now - data["elapsed"], now - data["phase_age"]
    state.counts.update(data["counts"])
    state.pace = Pace.from_dict(data["pace"], now)
    state.trials = {trial["number"]: _restored(trial, now) for trial in data["trials"]}
    if (best := data["best"]) is not None:
        state.best = state.trials.get(best["number"]) or _restored(best, now)
    for slot in data["slots"]:
        doing = None if slot["doing"] is None else Doing(**slot["doing"])
        state.slots[slot["name"]] = SlotState(**{**slot, "doing": doing, "since": now - slot["since"]})
    return state


def _trial(trial: TrialProgress, now: float) -> dict[str, Any]:
    started = None if trial.started is None else now - trial.started
    return {**asdict(trial), "started": started}


def _restored(data: Mapping[str, Any], now: float) -> TrialProgress:
    started = None if data["started"] is None else now - data["started"]
    return TrialProgress(**{**data, "started": started})
