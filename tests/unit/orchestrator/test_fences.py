"""A driver that is stopped between making sure that it holds its study and writing, and wakes after another.

The storage of the earlier driver stops it: the check has passed, the write has not happened.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.driver import cancelling
from orchestrator.ledger import Invocation, StudyStore, TrialRecord, WriteBehind
from orchestrator.ledger.documents import encode
from orchestrator.ledger.storage import Storage, StorageEntry, open_storage
from orchestrator.rows.scoring import finalists
from orchestrator.statistics.spending import Spent, spent_before

PATIENCE_S = 60.0
FAST = {"interval": 0.05, "settle": 0.05}


class Stopping(Storage):
    """Stops its user, as SIGSTOP does, at the moment in which a chosen path is about to be changed."""

    def __init__(self, behind: Storage) -> None:
        self._behind, self._path = behind, ""
        self.root, self.exclusive = behind.root, behind.exclusive
        self.reached, self._goes_on = threading.Event(), threading.Event()
        self._goes_on.set()

    def stop_before(self, path: str) -> None:
        self._path = path

    def go_on(self) -> None:
        self._goes_on.set()

    def _change(self, path: str) -> None:
        if self._path and self._path in path:
            self._path = ""
            self._goes_on.clear()
            self.reached.set()
        self._wait()

    def _wait(self) -> None:
        assert self._goes_on.wait(PATIENCE_S)

    def read(self, path: str) -> bytes | None:
        self._wait()
        return self._behind.read(path)

    def write(self, path: str, data: bytes) -> None:
        self._change(path)
        self._behind.write(path, data)

    def create(self, path: str, data: bytes) -> bool:
        self._change(path)
        return self._behind.create(path, data)

    def delete(self, path: str) -> None:
        self._change(path)
        self._behind.delete(path)

    def move(self, path: str, target: str) -> None:
        self._change(path)
        self._behind.move(path, target)

    def names(self, folder: str) -> list[str]:
        self._wait()
        return self._behind.names(folder)

    def files(self, folder: str) -> Iterator[str]:
        return self._behind.files(folder)

    def everything(self) -> Iterator[StorageEntry]:
        return self._behind.everything()


class Driver:
    """One that holds the study ``demo``, as ``run_invocation`` takes it."""

    def __init__(self, storage: Storage) -> None:
        self.store = StudyStore(storage, "demo")
        self.thread: threading.Thread | None = None
        self.invocation = Invocation()
        self.lease = self.store.driver_lease(invocation=self.invocation.id, **FAST)
        self.invocation.fence = self.lease.take()
        self.store.take_over(self.lease, self.invocation.id, spent_before(self.store).to_dict())
        self.store.save_study({"name": "demo"})
        self.trials = {trial.number: trial for trial in self.store.load_trials()}
        self.store.adopt(self.trials.values())
        self.store.save_invocation(self.invocation)

    def trial(self, number: int, state: str = "running", value: float | None = None) -> TrialRecord:
        about = {"fence": self.lease.fence, "invocation": self.invocation.id}
        epochs = [{"epoch": 1, "mean": value, "values": []}] if value is not None else []
        return TrialRecord(number=number, state=state, value=value, epochs=epochs, **about)  # type: ignore[arg-type]

    def save(self, number: int, state: str = "running", value: float | None = None) -> None:
        self.store.save_trial(self.trial(number, state, value))

    def row(self, value: float) -> dict[str, object]:
        return {"state": "complete", "value": value, "cells": [], "point": {}, "fence": self.lease.fence}


Stop = Callable[[str, Callable[[Driver], object]], tuple[Driver, Driver]]


@pytest.fixture(params=["local", "object store"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    local = request.param == "local"
    return open_storage(str(tmp_path) if local else f"fsspec+memory://{secrets.token_hex(4)}/runs")


@pytest.fixture
def stopped(root: Storage) -> Iterator[Stop]:
    """Begins a study, stops its driver within an act, and lets another take the study over."""
    stopping = Stopping(root)
    drivers: list[Driver] = []

    def stop(path: str, act: Callable[[Driver], object]) -> tuple[Driver, Driver]:
        first = Driver(stopping)
        first.save(0, "complete", 0.4)
        first.save(1)
        stopping.stop_before(path)
        first.thread = threading.Thread(target=act, args=(first,))
        first.thread.start()
        assert stopping.reached.wait(PATIENCE_S)
        second = Driver(root)
        drivers.extend((first, second))
        return first, second

    yield stop
    stopping.go_on()
    for driver in drivers:
        driver.lease.release()


def wake(first: Driver) -> None:
    """The stopped driver goes on: its write happens, and then it finds out."""
    storage = first.store.storage._behind  # type: ignore[attr-defined]
    storage.go_on()
    assert first.thread is not None
    first.thread.join(PATIENCE_S)
    assert first.lease.lost.wait(PATIENCE_S)


def test_a_late_write_over_a_running_trial_does_not_undo_its_completion(stopped: Stop, root: Storage) -> None:
    first, second = stopped("trials/1", lambda driver: driver.save(1, "failed"))
    assert second.trials[1].state == "running"
    second.save(1, "complete", 0.7)
    wake(first)
    trials = StudyStore(root, "demo").load_trials()
    assert [(t.number, t.state, t.value) for t in trials] == [(0, "complete", 0.4), (1, "complete", 0.7)]
    assert [t.number for t in finalists(trials, 1)] == [1]


def test_a_trial_that_waits_for_its_turn_is_the_later_drivers_too(stopped: Stop, root: Storage) -> None:
    first, second = stopped("trials/1", lambda driver: driver.save(1, "pruned", 0.1))
    wake(first)
    assert [t.state for t in StudyStore(root, "demo").load_trials()] == ["complete", "running"]
    assert second.trials[1].fence == second.lease.fence


def test_a_late_write_behind_is_as_harmless(stopped: Stop, root: Storage) -> None:
    def act(driver: Driver) -> None:
        behind = WriteBehind(driver.store.storage)
        driver.store.save_trial(driver.trial(1, "failed"), behind)
        behind.close(PATIENCE_S)

    first, second = stopped("trials/1", act)
    second.save(1, "complete", 0.7)
    wake(first)
    assert [t.state for t in StudyStore(root, "demo").load_trials()] == ["complete", "complete"]


def test_a_new_trial_that_is_recorded_late_does_not_exist(stopped: Stop, root: Storage) -> None:
    first, second = stopped("trials/2", lambda driver: driver.save(2, "complete", 0.9))
    wake(first)
    reader = StudyStore(root, "demo")
    assert [t.number for t in reader.load_trials()] == [0, 1] and reader.trial_numbers() == [0, 1]
    assert reader.load_trial(2) is None
    assert len(reader.late) == 1 and "trials/2" in reader.late[0], "it is not passed over in silence"
    second.save(1, "complete", 0.5)
    second.save(2, "complete", 0.6)
    assert [t.value for t in StudyStore(root, "demo").load_trials()] == [0.4, 0.5, 0.6]
    second.lease.release()
    third = Driver(root)
    assert [t.value for t in third.trials.values()] == [0.4, 0.5, 0.6]
    third.lease.release()


def test_a_decision_that_the_later_driver_took_without_writing_stands(root: Storage) -> None:
    """The second retried a failed trial and was stopped before it wrote so; the third left it failed."""
    first = Driver(root)
    first.save(0, "failed")
    first.lease.release()
    stopping = Stopping(root)
    second = Driver(stopping)
    stopping.stop_before("trials/0")
    thread = threading.Thread(target=lambda: second.save(0, "running"))
    thread.start()
    assert stopping.reached.wait(PATIENCE_S)
    third = Driver(root)
    assert third.trials[0].state == "failed"
    stopping.go_on()
    thread.join(PATIENCE_S)
    assert [t.state for t in StudyStore(root, "demo").load_trials()] == ["failed"]
    for driver in (second, third):
        driver.lease.release()


def test_a_reference_row_stays_the_later_drivers(stopped: Stop, root: Storage) -> None:
    def act(driver: Driver) -> None:
        driver.store.save_baseline("zero_step", driver.row(0.1))

    first, second = stopped("baselines", act)
    assert StudyStore(root, "demo").load_baselines() == {}
    wake(first)
    assert StudyStore(root, "demo").load_baselines() == {}, "recorded late, unknown to the later driver"
    second.store.save_baseline("zero_step", second.row(0.2))
    assert {n: r["value"] for n, r in StudyStore(root, "demo").load_baselines().items()} == {"zero_step": 0.2}


def test_a_row_of_a_comparison_stays_the_later_drivers(stopped: Stop, root: Storage) -> None:
    first, second = stopped("rows", lambda driver: driver.store.save_row("ab", driver.trial(0, "failed")))
    second.store.save_row("ab", second.trial(0, "complete", 0.6))
    wake(first)
    assert {key: row.state for key, row in StudyStore(root, "demo").load_rows().items()} == {"ab": "complete"}


def test_hours_of_a_driver_that_was_stopped_are_not_charged(stopped: Stop, root: Storage) -> None:
    def act(driver: Driver) -> None:
        driver.store.save_spending(driver.invocation.id, Spent(seconds=7200.0).to_dict())

    first, second = stopped("spending", act)
    wake(first)
    second.store.save_spending(second.invocation.id, Spent(seconds=10.0).to_dict())
    reader = StudyStore(root, "demo")
    assert spent_before(reader) == Spent(seconds=10.0)
    assert spent_before(reader, but=second.invocation.id) == Spent()


def test_what_earlier_drivers_spent_stays_counted(root: Storage) -> None:
    for seconds in (5.0, 7.0, 11.0):
        driver = Driver(root)
        driver.store.save_spending(driver.invocation.id, Spent(seconds=seconds).to_dict())
        driver.lease.release()
    assert spent_before(StudyStore(root, "demo")) == Spent(seconds=23.0)
    assert spent_before(StudyStore(root, "demo"), but=driver.invocation.id) == Spent(seconds=12.0)


def test_a_request_to_cancel_is_not_taken_away_by_an_earlier_driver(stopped: Stop, root: Storage) -> None:
    def act(driver: Driver) -> None:
        cancelling.request_cancel(StudyStore(root, "demo"), 1)
        for requests in cancelling.requested(driver.store).values():
            cancelling.clear(driver.store, requests)

    first, second = stopped("cancel", act)
    wake(first)
    assert list(cancelling.requested(second.store)) == [1]
    assert cancelling.requested(first.store) == {}, "what is meant for the later driver is not its own"


def test_the_last_run_is_the_one_that_took_the_study_over_last(root: Storage) -> None:
    store = StudyStore(root, "demo")
    for fence, identity in ((1, "20290101000000-0000"), (2, "20200101000000-0000")):
        store.save_invocation(Invocation(id=identity, fence=fence))
    assert [run.fence for run in store.load_invocations()] == [1, 2], "whatever the hosts' clocks said"


def test_an_opening_that_is_written_late_is_not_read(root: Storage) -> None:
    stopping = Stopping(root)
    stopping.stop_before("fences/")
    held: list[Driver] = []
    thread = threading.Thread(target=lambda: held.append(Driver(stopping)))
    thread.start()
    assert stopping.reached.wait(PATIENCE_S)
    second = Driver(root)
    second.save(0, "complete", 0.5)
    stopping.go_on()
    thread.join(PATIENCE_S)
    reader = StudyStore(root, "demo")
    assert reader.opening().fence == second.lease.fence
    assert [t.value for t in reader.load_trials()] == [0.5]
    for driver in (second, *held):
        driver.lease.release()


def test_a_driver_that_lost_its_study_writes_nothing_more(stopped: Stop, root: Storage) -> None:
    first, second = stopped("trials/1", lambda driver: driver.save(1))
    wake(first)
    second.lease.release()
    before = {entry.path: root.read(entry.path) for entry in root.everything()}
    first.save(5)
    first.invocation.outcome = "failed"
    first.store.save_invocation(first.invocation)
    first.store.storage.delete("studies/demo/trials/0.json")
    assert not first.store.storage.create("studies/demo/new", b"")
    first.lease.release()
    assert {entry.path: root.read(entry.path) for entry in root.everything()} == before


def test_records_without_a_fence_in_their_names_are_continued(root: Storage) -> None:
    for number, state in enumerate(("complete", "running", "failed")):
        record = TrialRecord(number=number, state=state, fence=3)  # type: ignore[arg-type]
        root.write(f"studies/demo/trials/{number}.json", encode(record.to_dict()))
    root.write("studies/demo/study.json", encode({"study": {"name": "demo"}, "saved_at": ""}))
    rows = {"zero_shot": {"state": "complete", "point": {}, "cells": []}}
    root.write("studies/demo/baselines.json", encode({"rows": rows}))
    root.write("studies/demo/rows/ab.json", encode({"key": "ab", "row": {"number": 0}}))
    driver = Driver(root)
    driver.save(1, "complete", 0.5)
    driver.lease.release()
    reader = StudyStore(root, "demo")
    assert [t.state for t in reader.load_trials()] == ["complete", "complete", "failed"]
    assert reader.load_baselines() == rows and list(reader.load_rows()) == ["ab"]
    names = root.names("studies/demo/trials")
    assert names[0] == "0.json" and names[2] == "2.json", "final records stay as they are"
    assert names[1] == f"1.{driver.invocation.fence}.json"


def test_what_is_superseded_goes_with_the_next_driver(root: Storage) -> None:
    first = Driver(root)
    first.save(0)
    first.lease.release()
    root.write(f"studies/demo/trials/0.{first.invocation.fence}.json", encode(first.trial(0).to_dict()))
    second = Driver(root)
    assert root.names("studies/demo/trials") == [f"0.{second.invocation.fence}.json"]
    second.save(0, "complete", 0.5)
    second.lease.release()
    root.write(f"studies/demo/trials/0.{first.invocation.fence}.json", encode(first.trial(0).to_dict()))
    third = Driver(root)
    assert root.names("studies/demo/trials") == [f"0.{second.invocation.fence}.json"]
    assert third.trials[0].value == 0.5
    assert root.names("studies/demo/fences") == [f"{third.invocation.fence}.json"]
    third.lease.release()


def test_reading_and_taking_over_list_folders_whatever_the_number_of_trials(root: Storage) -> None:
    listed: list[str] = []

    class Counting(Stopping):
        def names(self, folder: str) -> list[str]:
            listed.append(folder)
            return super().names(folder)

    counts = []
    for number in range(30):
        driver = Driver(root)
        driver.save(number, "complete", 0.5)
        driver.save(number + 1)
        driver.lease.release()
        listed.clear()
        StudyStore(Counting(root), "demo").load_trials()
        assert listed == ["studies/demo/trials", "studies/demo/fences"]
        driver = Driver(Counting(root))
        driver.lease.release()
        counts.append(len([folder for folder in listed if not folder.endswith("/driver")]))
    assert set(counts[1:]) == {counts[1]}


@pytest.mark.parametrize("file", ["study.json", "study.copy.json"])
def test_the_study_is_as_the_later_driver_recorded_it(root: Storage, file: str) -> None:
    first = Driver(root)
    first.lease.release()
    stopping = Stopping(root)
    stopping.stop_before(f"studies/demo/{file}")
    held: list[Driver] = []
    thread = threading.Thread(target=lambda: held.append(Driver(stopping)))
    thread.start()
    assert stopping.reached.wait(PATIENCE_S)
    third = Driver(root)
    third.store.save_study({"name": "demo", "trials": 8})
    stopping.go_on()
    thread.join(PATIENCE_S)
    reader = StudyStore(root, "demo")
    assert reader.load_study() == {"name": "demo", "trials": 8} and reader.id == first.store.id
    for driver in (third, *held):
        driver.lease.release()
