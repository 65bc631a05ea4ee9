"""A driver that is killed again and again in the middle of real training, and started again each time."""

from __future__ import annotations

import re
import signal
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.execution.executor import Executor
from orchestrator.ledger import Ledger

if TYPE_CHECKING:
    from driver import Driver

pytestmark = pytest.mark.ray


def test_a_sweep_that_is_killed_at_any_moment_goes_on_where_it_was(
    importable: None, tiny_study: Path, tmp_path: Path
) -> None:
    from driver import Driver

    driver = Driver(tiny_study, tmp_path, tmp_path / "epochs.log")

    def in_training() -> bool:
        return bool(driver.ledger.inflight_batches())

    def second_in_training() -> bool:
        return driver.states()[:1] == ["complete"] and in_training()

    for number, moment in ((signal.SIGKILL, in_training), (signal.SIGTERM, second_in_training)):
        code, seconds = driver.end(number, moment)
        assert code in ((-number, 143)), driver.output
    assert code == 143 and seconds < 20, "SIGTERM ends in order, within the deadline"
    assert driver.store.load_invocations()[-1].outcome == "interrupted"
    driver.end(signal.SIGKILL, lambda: bool(driver.store.load_test_evaluations()))
    driver.finish()

    trials = driver.store.load_trials()
    assert [(t.number, t.state) for t in trials] == [(n, "complete") for n in range(4)]
    keys = [key for trial in trials for key in trial.keys]
    assert len(set(keys)) == 8 and set(
        driver.ledger.get_many(
            keys,
        )
    ) == set(keys)
    trained = driver.epochs()
    assert all((key, epoch) in trained for key in keys for epoch in range(1, 7)), "no epoch is missing"
    repeated = Counter(key for (key, _), count in trained.items() for _ in range(count - 1))
    assert all(count <= 1 for count in repeated.values()), f"more than one epoch again: {repeated}"

    again = driver.finish()
    assert "trained=0" in again and driver.epochs() == trained
    assert_same_numbers_uninterrupted(driver, tmp_path / "uninterrupted")
    assert_one_mlflow_run_each(driver, tmp_path)


def assert_same_numbers_uninterrupted(driver: Driver, storage: Path) -> None:
    """Every cell again, each trial in one go and without Ray: the same to the last bit."""
    reference = Ledger(storage)
    executor: Executor | None = None
    for trial in driver.store.load_trials():
        item = driver.plan.work_item(
            driver.plan.space.replay(trial.params), item_id="again", storage=str(storage)
        )
        executor = executor or Executor(item.dataset, item.backbone, item.storage, threads=1)
        executor.run(item, lambda event: None)
        for key in trial.keys:
            assert reference.history(key) is not None
            assert _numbers(reference, key) == _numbers(driver.ledger, key)


def _numbers(ledger: Ledger, key: str) -> Any:
    record = ledger.get(key)
    assert record is not None
    epochs = [{n: v for n, v in e.items() if n not in ("seconds", "at")} for e in ledger.history(key)]
    prompts = ledger.read_file(key, "prompts.safetensors")
    return epochs, prompts, record["metrics"]["accuracy"]


def assert_one_mlflow_run_each(driver: Driver, folder: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    tags = [run.data.tags for run in client.search_runs([experiment.experiment_id], max_results=1000)]
    runs = Counter((t["kind"], t.get("trial"), t.get("cell")) for t in tags)
    assert set(runs.values()) == {1}
    expected = {("trial", str(t.number), None) for t in driver.store.load_trials()}
    expected |= {("cell", str(t.number), key) for t in driver.store.load_trials() for key in t.keys}
    assert expected <= set(runs)
    assert not re.search(r"Traceback", driver.output), driver.output
