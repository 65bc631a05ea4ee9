"""Faults of the cells themselves."""

from __future__ import annotations

import os
from pathlib import Path

from scene import Scene

from kinds.base import Place, Row, fault, row
from orchestrator.work.shown import TrialShown

TIMEOUT_S = 5.0
MARGIN = 4 * 2**30
"""Bytes beyond those in use at which Ray starts to kill, where its monitor is put to the test."""


@fault("a cell that raises")
def cell_raises(place: Place) -> Row:
    return cell_row(place.scene("cell-raises"), "raises")


@fault("a cell that returns NaN")
def cell_nan(place: Place) -> Row:
    return cell_row(place.scene("cell-nan"), "nan")


@fault("a cell that hangs")
def cell_hangs(place: Place) -> Row:
    return cell_row(place.scene("cell-hangs", f"slots.cell_timeout_s={TIMEOUT_S:g}"), "hangs")


@fault("out of memory: the cell asks for too much")
def out_of_memory(place: Place) -> Row:
    return cell_row(place.scene("out-of-memory"), "asks_for_too_much")


@fault("out of memory: Ray kills the worker", group="memory")
def killed_for_memory(place: Place) -> Row:
    """Ray's own memory monitor, told to act at little more than what is taken now."""
    total, free = memory()
    threshold = min(0.95, (total - free + MARGIN) / total)
    os.environ.update(RAY_memory_usage_threshold=f"{threshold:.3f}", RAY_memory_monitor_refresh_ms="100")
    return cell_row(place.scene("killed-for-memory", "slots.count=1"), "takes_all_memory")


def cell_row(scene: Scene, name: str) -> Row:
    """One batch of one trial is hit; the others of the study go on."""
    scene.when(lambda: scene.arm(name), TrialShown, number=0, state="complete")
    outcome = scene.run()
    at, keys = scene.hit(name)
    failures = [f for f in scene.ledger.failures(keys).values() if f["failed_at"]]
    first = failures[0]
    detected = (
        f"{len(failures)} cells of trial {first['trial']} failed, kind {first['kind']}: {first['error']}"
    )
    again = scene.next_epoch(at, lambda line: line.key not in keys)
    states = [trial.state for trial in scene.store.load_trials()]
    assert states.count("failed") == 1 and states.count("complete") == 3, states
    return row(scene, first_line(detected), again, outcome, told="trial 1.*failed|failed:")


def memory() -> tuple[int, int]:
    """Bytes of the machine, and of those available."""
    found = {}
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, value, *_ = line.split()
        found[name.rstrip(":")] = int(value) * 1024
    return found["MemTotal"], found["MemAvailable"]


def first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
