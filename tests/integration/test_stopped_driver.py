"""A driver that is stopped, and goes on when another one has taken its study over and finished it."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from orchestrator.ledger import Storage

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_a_driver_that_wakes_after_another_has_finished_changes_nothing(
    importable: None, tiny_study: Path, tmp_path: Path
) -> None:
    """It is stopped as by SIGSTOP or a suspended laptop, while its workers go on."""
    from driver import PATIENCE, Driver

    driver = Driver(tiny_study, tmp_path, tmp_path / "epochs.log")
    first = driver.start()
    try:
        until = time.monotonic() + PATIENCE
        while driver.states()[:1] != ["complete"] or not driver.ledger.inflight_batches():
            assert first.poll() is None and time.monotonic() < until
            time.sleep(0.02)
        os.kill(first.pid, signal.SIGSTOP)
        said = driver.finish()
        assert f"to see whether process {first.pid} on" in said
        before = records(driver.store.storage, driver.store.name)
        assert driver.states() == ["complete"] * 4
        os.kill(first.pid, signal.SIGCONT)
        output = first.communicate(timeout=120)[0]
    finally:
        first.kill()
    assert first.returncode == 1, output
    assert "took study 'tiny' over" in output and "orchestrator status tiny" in output
    assert records(driver.store.storage, driver.store.name) == before
    assert driver.states() == ["complete"] * 4 and driver.store.late == []
    keys = [key for trial in driver.store.load_trials() for key in trial.keys]
    assert len(set(keys)) == 8 and set(driver.ledger.get_many(keys)) == set(keys)
    assert runs(tmp_path / "mlflow.db") == Counter({("FINISHED", 1): 4})


def records(storage: Storage, study: str) -> dict[str, bytes | None]:
    """Of the study, but not which driver runs it."""
    folders = [
        f"studies/{study}/{name}" for name in ("trials", "baselines", "looks", "invocations", "fences")
    ]
    paths = [f"{folder}/{name}" for folder in folders for name in storage.names(folder)]
    return {path: storage.read(path) for path in paths}


def runs(database: Path) -> Counter[tuple[str, int]]:
    """Of how many trials MLflow has how many runs in which state."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{database}")
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], max_results=1000)
    trials = [run for run in found if run.data.tags["kind"] == "trial" and run.data.tags["trial"].isdecimal()]
    count = Counter(run.data.tags["trial"] for run in trials)
    return Counter((run.info.status, count[run.data.tags["trial"]]) for run in trials)
