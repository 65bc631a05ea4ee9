"""Waiting for a storage that is away, and noticing that it is."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from orchestrator.ledger import storage as storage_module
from orchestrator.ledger.patient import PatientStorage, StorageAway
from orchestrator.ledger.storage import LocalStorage


class Unsteady(LocalStorage):
    """Fails so many times with a number of the operating system."""

    def __init__(self, root: Path, failures: int, number: int) -> None:
        super().__init__(root)
        self.failures, self._number = failures, number

    def write(self, path: str, data: bytes) -> None:
        if self.failures > 0:
            self.failures -= 1
            raise OSError(self._number, os.strerror(self._number))
        super().write(path, data)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def patient(behind: Unsteady, clock: Clock, said: list[str]) -> PatientStorage:
    return PatientStorage(behind, said.append, away=300, full=100, clock=clock, sleep=clock.sleep)


def test_what_fails_for_a_while_succeeds_in_the_end_and_is_told_once(tmp_path: Path) -> None:
    clock, said = Clock(), list[str]()
    storage = patient(Unsteady(tmp_path, 30, errno.EIO), clock, said)
    storage.write("a/b", b"x")
    assert storage.read("a/b") == b"x" and 30 < clock.now < 100
    assert len(said) == 1 and str(tmp_path) in said[0] and os.strerror(errno.EIO) in said[0]


@pytest.mark.parametrize(("number", "patience"), [(errno.ENOSPC, 100), (errno.EIO, 300)])
def test_patience_ends_sooner_where_there_is_no_room(tmp_path: Path, number: int, patience: float) -> None:
    clock, said = Clock(), list[str]()
    storage = patient(Unsteady(tmp_path, 10**6, number), clock, said)
    with pytest.raises(StorageAway) as raised:
        storage.write("a/b", b"x")
    assert patience <= clock.now < patience + 5
    assert raised.value.errno == number and os.strerror(number) in str(raised.value)


@pytest.mark.parametrize("replaced", [False, True])
def test_a_root_that_is_moved_away_is_no_empty_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replaced: bool
) -> None:
    """Without this, records would seem lost and new ones would land below the mount point."""
    monkeypatch.setattr(storage_module, "ROOT_LOOK_S", 0.0)
    root = tmp_path / "runs"
    storage = LocalStorage(root)
    assert storage.read("a") is None, "nothing was ever written"
    storage.write("a", b"x")
    assert storage.read("a") == b"x"
    root.rename(tmp_path / "elsewhere")
    if replaced:
        root.mkdir()
    for operation in (
        lambda: storage.read("a"),
        lambda: storage.names(""),
        lambda: storage.write("b", b"y"),
        lambda: storage.create("c", b"z"),
    ):
        with pytest.raises(OSError, match="unmounted or moved"):
            operation()
    assert not root.exists() or not list(root.iterdir())
    if replaced:
        root.rmdir()
    (tmp_path / "elsewhere").rename(root)
    assert storage.read("a") == b"x"


def test_a_root_that_was_deleted_a_moment_ago_does_not_come_back_with_a_few_records(tmp_path: Path) -> None:
    """It would be a study without its settings, which no later run could tell from a damaged one."""
    root = tmp_path / "runs"
    storage = LocalStorage(root)
    storage.write("studies/demo/study.json", b"x")
    root.rename(tmp_path / "trash")
    for operation in (
        lambda: storage.write("studies/demo/trials/1.json", b"y"),
        lambda: storage.create("claims/2.json", b"z"),
        lambda: storage.move("a", "quarantine/a"),
    ):
        with pytest.raises(OSError, match="it is gone"):
            operation()
    assert not root.exists()


def test_a_root_is_made_by_the_first_write_and_folders_below_it_by_any(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path / "a" / "runs")
    storage.write("b/c/d.json", b"x")
    storage.move("b/c/d.json", "e/f.json")
    assert list(storage.files("")) == ["e/f.json"]
