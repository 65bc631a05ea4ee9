"""Races of a small study on symbols, really trained: killed in the middle, and as a Ray job on a real S3.

uv run pytest -m slow tests/integration/test_race.py
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.ledger import Ledger, StudyStore
from orchestrator.statistics.race_records import COURSE, TERMS

pytestmark = [pytest.mark.slow, pytest.mark.ray]

ROOT = Path(__file__).parents[2]

STUDY = ["demo", "search.trials=2", "seeds=[1,2]", "recipe.epochs=2", "splits=[{shots: 1}]"]
STUDY += ["search.scheduler=none", "search.sampler=random", "finalists=2"]

RACE = "demo-race-0-1"
BUDGET = "6"
PATIENCE = 900.0
"""Seconds to wait for a moment of a race on a busy machine."""


def told(storage: str) -> Any:
    """What the records of the race say, without times and without who wrote them."""
    store, ledger = StudyStore(storage, RACE), Ledger(storage)
    course, terms = store.load_race(COURSE), store.load_race(TERMS)
    assert course is not None and terms is not None
    trials = []
    for trial in store.load_trials():
        records = ledger.get_many(trial.keys)
        values = {key: records[key]["metrics"]["accuracy"] for key in trial.keys}
        histories = {
            key: [{n: v for n, v in e.items() if n not in ("seconds", "at")} for e in ledger.history(key)]
            for key in trial.keys
        }
        tests = {key: test["metrics"]["accuracy"] for key, test in ledger.tests(trial.keys).items()}
        trials.append(
            (trial.number, trial.state, trial.cells, trial.value, trial.epochs, values, histories, tests)
        )
    return terms, {name: value for name, value in course.items() if name != "ahead"}, trials


def run(*arguments: str, cwd: Path, environment: dict[str, str] | None = None) -> str:
    found = subprocess.run(
        [sys.executable, "-m", "orchestrator", *arguments],
        cwd=cwd,
        env=environment or os.environ,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found
    return found.stdout


def until(moment: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    limit = time.monotonic() + PATIENCE
    while not moment():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < limit, "the moment never came"
        time.sleep(0.05)


def test_a_race_whose_driver_was_killed_goes_on_to_the_same_records(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    tracking = f"tracking.uri=sqlite:///{tmp_path / 'mlflow.db'}"
    run("sweep", *STUDY, f"storage={whole}", tracking, cwd=tmp_path)
    shutil.copytree(whole, killed)
    race = ["confirm", "demo", "--race", "--budget", BUDGET, "--json"]
    found = json.loads(run(*race, "--storage", str(whole), cwd=tmp_path))
    assert found["race"]["end"] in ("budget", "one left")
    assert found["race"]["cells"] <= int(BUDGET) and len(found["race"]["seeds"]) >= 2

    store = StudyStore(killed, RACE)
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestrator", *race, "--storage", str(killed)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    until(lambda: any(trial.cells for trial in store.load_trials()), process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    course = store.load_race(COURSE)
    assert course is None or course["end"] is None, "the race was over before it was killed"
    again = json.loads(run(*race, "--storage", str(killed), cwd=tmp_path))
    assert told(str(killed)) == told(str(whole))
    assert [line for line in again["looks"] if line["reason"] == "end of the race: those that stand"]


def test_a_race_is_a_ray_job_with_its_records_on_an_object_store(importable: None, tmp_path: Path) -> None:
    from head import head_node
    from object_store import bucket

    with contextlib.ExitStack() as context:
        storage = context.enter_context(bucket(tmp_path))
        tracking = f"tracking.uri=sqlite:///{tmp_path / 'mlflow.db'}"
        run("sweep", *STUDY, f"storage={storage}", tracking, cwd=tmp_path)  # on a Ray of its own
        head = context.enter_context(head_node(cpus=2, python_path=str(ROOT)))
        environment = head.environment(RAY_API_SERVER_ADDRESS=head.address, RAY_AUTH_MODE="token")
        job = [
            *(sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--working-dir", str(ROOT)),
            *("--", "python", "-m", "orchestrator", "confirm", "demo", "--race", "--budget", BUDGET),
            *("--storage", storage),
        ]
        found = subprocess.run(job, env=environment, capture_output=True, text=True)
        assert found.returncode == 0, found
        assert "The race ended after" in " ".join(found.stdout.split()), found.stdout
        results = json.loads(run("results", RACE, "--storage", storage, "--json", cwd=tmp_path))
        assert results["race"]["end"] in ("budget", "one left")
        stand = {trial["number"] for trial in results["trials"] if trial["state"] == "complete"}
        assert stand == set(results["race"]["standing"]) and results["winner"] in stand
        assert all(trial["test"] for trial in results["trials"] if trial["number"] in stand)
