"""A study whose records lie on a real S3: killed in the middle, run twice at once, with torn objects."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from driver import Driver

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture
def driver(importable: None, tiny_study: Path, tmp_path: Path) -> Iterator[Driver]:
    from driver import Driver
    from object_store import bucket

    with bucket(tmp_path) as uri:
        yield Driver(tiny_study, tmp_path, tmp_path / "epochs.log", storage=uri)


def assert_every_trial_counts_once(driver: Driver) -> None:
    """One record per trial counts, every cell of it is finished and enters one mean once."""
    trials = driver.store.load_trials()
    assert [(t.number, t.state) for t in trials] == [(n, "complete") for n in range(4)]
    keys = [key for trial in trials for key in trial.keys]
    assert len(keys) == 8 and set(Counter(keys).values()) == {1}
    records = driver.ledger.get_many(keys)
    assert records.keys() == set(keys)
    for trial in trials:
        values = [records[key]["metrics"]["accuracy"] for key in trial.keys]
        assert trial.value == pytest.approx(sum(values) / 2, abs=1e-12)


def test_a_killed_study_on_an_object_store_resumes_with_nothing_lost_or_done_twice(driver: Driver) -> None:
    def second_in_training() -> bool:
        return driver.states()[:1] == ["complete"] and bool(driver.ledger.inflight_batches())

    driver.end(signal.SIGKILL, second_in_training)
    driver.finish()
    assert_every_trial_counts_once(driver)
    again = Counter(key for (key, _), count in driver.epochs().items() for _ in range(count - 1))
    assert all(count <= 1 for count in again.values()), f"more than one epoch again: {again}"
    before = driver.epochs()
    assert "trained=0" in driver.finish()
    assert driver.epochs() == before


def test_two_drivers_at_once_on_an_object_store_count_every_trial_once(driver: Driver) -> None:
    from driver import PATIENCE

    processes = [driver.start(), driver.start()]
    outputs = [process.communicate(timeout=PATIENCE)[0] for process in processes]
    codes = [process.returncode for process in processes]
    assert 0 in codes, "\n".join(outputs)
    for code, output in zip(codes, outputs, strict=True):
        assert code == 0 or "is being run by" in output or "took the study over" in output, output
    driver.finish()
    assert_every_trial_counts_once(driver)


def test_torn_objects_are_named_and_what_they_held_is_found_again(driver: Driver) -> None:
    driver.finish()
    storage = driver.ledger.storage
    trial = driver.store.load_trials()[1]
    of_trial = [n for n in storage.names("studies/tiny/trials") if n.split(".")[0] == "2"]
    torn = [f"studies/tiny/trials/{name}" for name in of_trial] + [f"cells/{trial.keys[0]}/record.json"]
    for path in torn:
        data = storage.read(path)
        assert data is not None
        storage.write(path, data[: len(data) // 2])
    before = driver.epochs()
    output = driver.finish()
    assert "trials/2" in output, output
    assert_every_trial_counts_once(driver)
    assert driver.epochs() == before, "finished cells are found again, not trained"
