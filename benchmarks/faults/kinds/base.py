"""What a fault is, and what all of them report."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scene import Line, Scene

from orchestrator.driver import Outcome

HERE = Path(__file__).parents[1]
STARTED: list[subprocess.Popen[str]] = []
"""Drivers of the fault that is played."""

NOT_RECEIVED = r"has not received all updates \((?!still busy)|refused by"
"""How a user learns that MLflow lacks something, with what kept it from MLflow."""

RESUMES = "^The last run"
"""What the next run says of one that did not end as it should have."""

OUTAGE_S = 60.0


@dataclass(frozen=True)
class Place:
    """Where scenes are set.

    Attributes:
        folder: holds one folder per scene.
        control: the folder that steers the workers of this process's Ray.
        database: of MLflow without a run; MLflow takes many seconds to make one.
    """

    folder: Path
    control: Path
    database: Path

    def scene(self, name: str, *overrides: str, **options: Any) -> Scene:
        return Scene(self.folder / name, self.control, *overrides, database=self.database, **options)


Row = dict[str, Any]


@dataclass(frozen=True)
class Fault:
    """A row of the table.

    Attributes:
        name: as the table says it.
        group: faults of one group share a Ray; a group that is a fault's own starts what it needs.
        injure: plays the scene.
    """

    name: str
    group: str
    injure: Callable[[Place], Row]


FAULTS: dict[str, Fault] = {}


def fault(name: str, group: str = "shared") -> Callable[[Callable[[Place], Row]], Callable[[Place], Row]]:
    """Register a fault under the name of its function."""

    def add(injure: Callable[[Place], Row]) -> Callable[[Place], Row]:
        FAULTS[injure.__name__] = Fault(name, group, injure)
        return injure

    return add


def row(
    scene: Scene,
    detected: str,
    recovered: float | None,
    outcome: Outcome,
    *,
    told: str | None,
    **more: Any,
) -> Row:
    """What a fault reports.

    Args:
        scene: that was played.
        detected: how the software noticed.
        recovered: seconds to the next epoch of what was hit; None if there was none.
        outcome: of the last run.
        told: pattern of the line by which the user learns of it; None where there is nothing to learn, since
            no work stood still.
        more: further values for the results.
    """
    lines = scene.seen()
    found = None if told is None else next((line for line in lines if re.search(told, line)), "")
    return {
        "detected": detected,
        "seconds_to_recover": recovered,
        "seen": lines,
        "told": found,
        "outcome": outcome.state,
        **scene.measures(),
        **more,
    }


def last_trained(scene: Scene) -> Line:
    """The last epoch of a trial's cell that was trained."""
    return [line for line in scene.lines() if line.what == "epoch" and line.kind == "train"][-1]


def runs_missing(scene: Scene) -> int:
    """Runs of trials and cells that MLflow should show and does not."""
    shown = {run.data.tags["mmap.run"] for run in scene.mlflow_runs()}
    trials = scene.store.load_trials()
    wanted = {f"trial/{t.number}" for t in trials}
    wanted |= {f"trial/{t.number}/cell/{key}" for t in trials for key in t.keys}
    return len(wanted - shown)


def start_driver(scene: Scene, *before: str, **environment: str) -> subprocess.Popen[str]:
    """A driver of the scene's study in a process of its own, the leader of a group.

    Args:
        scene: whose study it is.
        before: a command that starts it.
        environment: more variables.
    """
    driver = subprocess.Popen(
        [*before, sys.executable, str(HERE / "driver.py"), *scene.overrides],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
        start_new_session=True,
    )
    STARTED.append(driver)
    return driver


def end_drivers() -> None:
    """Kill what a fault that was not played to its end left behind."""
    while STARTED:
        driver = STARTED.pop()
        if driver.poll() is None:
            driver.kill()
            driver.wait()


def second_trial_in_work(scene: Scene) -> bool:
    """Trial 1 has told two epochs and is not complete."""
    trial = scene.store.load_trial(1)
    return trial is not None and len(trial.epochs) >= 2 and trial.state == "running"
