"""Where records lie: names, credentials, paths, and reading and writing them side by side."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from orchestrator.ledger import (
    Ledger,
    StorageError,
    WriteBehind,
    check_writable,
    open_storage,
)
from orchestrator.ledger.gather import AT_ONCE, LAST, SLOW_S, gather
from orchestrator.ledger.storage import LocalStorage


def test_listing_reads_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path)
    for number in range(5):
        ledger.commit(f"{number:032x}", {"metrics": {}}, {"f": b""})

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a listing looked at a file")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(os, "stat", refuse)
    assert len(ledger.finished()) == 5


def test_a_killed_writer_leaves_no_half_file(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom orchestrator.ledger import open_storage\ns = open_storage(sys.argv[1])\n"
        "i = 0\nwhile True:\n    s.write('d/f', bytes([i % 256]) * 200_000)\n    i += 1\n"
        "    if i == 3: print('go', flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, env=dict(os.environ)
    )
    assert process.stdout is not None and process.stdout.readline()
    process.kill()
    process.wait()
    data = open_storage(tmp_path).read("d/f")
    assert data is not None and len(data) == 200_000 and len(set(data)) == 1
    assert open_storage(tmp_path).names("d") == ["f"]


@pytest.mark.parametrize("taken", ["file", "folder"])
def test_a_place_that_cannot_be_written_is_an_input_error(tmp_path: Path, taken: str) -> None:
    check_writable(tmp_path / "new" / "runs")
    blocked = tmp_path / "blocked"
    if taken == "file":
        blocked.write_text("a file")
        where = blocked / "runs"
    else:
        where = Path("/proc/nowhere")
    with pytest.raises(StorageError, match=r"storage: cannot write to") as caught:
        check_writable(where)
    assert caught.value.fix is not None and "storage=" in caught.value.fix


def test_places_are_named_without_credentials() -> None:
    storage = open_storage("fsspec+memory://key:secret@bucket/runs")
    assert storage.locate("cells/a") == "fsspec+memory://bucket/runs/cells/a"


def test_an_unknown_scheme_is_an_input_error() -> None:
    with pytest.raises(StorageError, match="s3://bucket"):
        open_storage("ftp-ish://bucket/runs")


@pytest.mark.parametrize("path", ["../outside", "cells/../../outside", "/etc/passwd", "a\0b"])
def test_no_path_leads_out_of_the_storage(root: str, tmp_path: Path, path: str) -> None:
    storage = open_storage(root)
    storage.write("inside", b"")
    (tmp_path / "outside").write_text("theirs")
    for act in (
        lambda: storage.read(path),
        lambda: storage.write(path, b""),
        lambda: storage.create(path, b""),
        lambda: storage.delete(path),
        lambda: storage.move("inside", path),
        lambda: storage.move(path, "inside"),
        lambda: storage.names(path),
        lambda: list(storage.files(path)),
    ):
        with pytest.raises(StorageError, match="leads out of the storage"):
            act()
    assert (tmp_path / "outside").read_text() == "theirs" and storage.names("") == ["inside"]


def test_credentials_of_a_storage_are_never_shown() -> None:
    key = "AKIAEXAMPLE:not/a+real%2Fkey"
    assert (
        open_storage(f"s3://{key.replace('/', '%2F')}@bucket/runs?region=eu-west-1").locate("x")
        == "s3://bucket/runs/x"
    )
    with pytest.raises(StorageError) as raised:
        open_storage(f"nosuch://{key}@bucket/runs")
    assert "a+real" not in str(raised.value)


def test_records_on_a_slow_storage_are_read_side_by_side(tmp_path: Path) -> None:
    keys = [f"{number:032x}" for number in range(LAST + 3 * AT_ONCE)]
    for key in keys:
        Ledger(tmp_path).commit(key, {"metrics": {"accuracy": 0.5}}, {})

    class Slow(LocalStorage):
        """Answers the first few after a while, others once as many as may be under way have asked."""

        rounds = 0
        alone = 0

        def __init__(self) -> None:
            super().__init__(tmp_path)
            self._full = threading.Barrier(AT_ONCE, action=self._count)

        def _count(self) -> None:
            self.rounds += 1

        def read(self, path: str) -> bytes | None:
            if threading.current_thread() is threading.main_thread():
                self.alone += 1
                time.sleep(2 * SLOW_S)
            else:
                self._full.wait(timeout=10)
            return super().read(path)

    slow = Slow()
    found = Ledger(slow).get_many(keys)
    assert list(found) == keys and all(record["metrics"] == {"accuracy": 0.5} for record in found.values())
    assert (slow.alone, slow.rounds) == (LAST, 3)


def test_records_on_a_fast_storage_are_read_one_after_the_other() -> None:
    threads = set()
    gather(lambda _: threads.add(threading.current_thread()), range(200))
    assert threads == {threading.main_thread()}


def test_of_what_is_written_behind_the_latest_stays_and_errors_are_tried_again(tmp_path: Path) -> None:
    away = threading.Event()
    away.set()
    written: list[tuple[str, bytes]] = []

    class Unreliable(LocalStorage):
        def write(self, path: str, data: bytes) -> None:
            if away.is_set():
                raise OSError("the storage is away")
            super().write(path, data)
            written.append((path, data))

    storage = Unreliable(tmp_path)
    behind = WriteBehind(storage, again_s=0.01)
    for number in range(50):
        for path in ("trials/0.json", "trials/1.json"):
            behind.put(path, str(number).encode())
    assert not behind.drain(0.05) and not written
    away.clear()
    assert behind.close(10)
    assert sorted(written) == [("trials/0.json", b"49"), ("trials/1.json", b"49")]
    assert storage.read("trials/0.json") == b"49"
