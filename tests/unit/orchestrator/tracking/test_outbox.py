"""The queue on disk: in order, at least once, through kills, full disks and other drivers."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.tracking import Tracker
from orchestrator.tracking.outbox import Outbox, open_outbox


def test_the_outbox_survives_a_kill(tmp_path: Path, server: Any, tracker_on: Callable[..., Tracker]) -> None:
    program = (
        "import sys, time\nfrom orchestrator.tracking import Tracker\n"
        "from orchestrator.tracking.narration import Narration\n"
        "def never():\n    raise ConnectionError('nobody listens')\n"
        "t = Tracker('x', sys.argv[1], connect=never, narration=Narration(study='demo'))\n"
        "for i in range(50):\n    t.trial_started(i, {'method': 'mmap'})\n"
        "print('told', flush=True)\nwhile True:\n    t.trial_started(99, {'method': 'x' * 3000})\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"told\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    with max(tmp_path.glob("0/0*.jsonl")).open("ab") as stream:
        stream.write(b'{"op": "start", "run": "trial/torn')
    assert tracker_on(tmp_path).close(30).note is None
    runs = [o["run"] for o in server.operations]
    assert runs[:50] == [f"trial/{i}" for i in range(50)] and set(runs[50:]) <= {"trial/99"}
    assert not (tmp_path / "0" / "refused.jsonl").exists()


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.one_of(st.integers(0, 10**6), st.just("acknowledge"), st.just("reopen")), max_size=30),
    st.integers(1, 60),
)
def test_an_outbox_delivers_everything_in_order(
    tmp_path_factory: pytest.TempPathFactory, actions: list[int | str], segment: int
) -> None:
    folder = tmp_path_factory.mktemp("outbox")
    outbox = Outbox(folder, segment_bytes=segment)
    told, delivered = [], []
    for action in [*actions, *["acknowledge"] * 40]:
        if action == "acknowledge":
            news, position = outbox.read(limit=3)
            delivered += [o["n"] for o in news]
            outbox.acknowledge(position)
        elif action == "reopen":
            outbox.close()
            outbox = Outbox(folder, segment_bytes=segment)
        else:
            outbox.append({"n": action})
            told.append(action)
    assert delivered == told and outbox.pending_bytes == 0
    assert len(list(folder.glob("*.jsonl"))) <= 1, "delivered segments are removed"
    outbox.close()


def test_news_that_a_full_disk_refuses_waits_and_keeps_its_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox, write = Outbox(tmp_path), os.write
    outbox.append({"n": 0})

    def torn(descriptor: int, data: bytes) -> int:
        return write(descriptor, data[: len(data) // 2])

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    for number, fails in enumerate((torn, full), 1):
        monkeypatch.setattr(os, "write", fails)
        outbox.append({"n": number})
    assert outbox.waiting and outbox.read()[0] == [{"n": 0}]
    monkeypatch.setattr(os, "write", write)
    outbox.append({"n": 3})
    news, position = outbox.read()
    assert [o["n"] for o in news] == [0, 1, 2, 3]
    outbox.acknowledge(position)
    assert not outbox.waiting
    outbox.close()


def test_unacknowledged_news_are_delivered_again(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.append({"n": 1})
    assert outbox.read()[0] == [{"n": 1}]
    outbox.close()
    again = Outbox(tmp_path)
    assert again.read()[0] == [{"n": 1}] and again.appended.is_set()
    again.close()


def test_an_acknowledgement_beyond_the_end_is_damage_and_no_endless_loop(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.append({"n": 1})
    outbox.acknowledge((1, 10**6))
    outbox.close()
    again = Outbox(tmp_path)
    assert again.damaged and again.appended.is_set() and again.pending_bytes == 0
    again.damaged = False
    again.append({"n": 2})
    news, position = again.read()
    assert news == [{"n": 2}] and not again.damaged
    again.acknowledge(position)
    assert not again.waiting
    again.close()


def test_the_next_driver_discards_the_news_of_earlier_ones(tmp_path: Path) -> None:
    (tmp_path / "00000001.jsonl").write_text('{"n": 0}\n')
    (tmp_path / "acknowledged.json").write_text('{"segment": 1, "offset": 0}')
    first = open_outbox(tmp_path, 1)
    first.append({"n": 1})
    second = open_outbox(tmp_path, 2)
    assert second.read()[0] == [] and [p.name for p in tmp_path.iterdir()] == ["2"]
    first.append({"n": 3})
    first.read()
    assert first.damaged and [p.name for p in tmp_path.iterdir()] == ["2"], "nothing comes back"
    first.close()
    second.close()


def test_nobody_else_reads_the_news(tmp_path: Path) -> None:
    former = os.umask(0o002)
    try:
        outbox = open_outbox(tmp_path / "outbox", 1)
        outbox.append({"op": "log", "run": "1"})
        outbox.reject({"op": "log", "run": "1"}, "too long")
        outbox.close()
    finally:
        os.umask(former)
    assert outbox.folder.stat().st_mode & 0o077 == 0
    assert next(outbox.folder.glob("0*.jsonl")).stat().st_mode & 0o077 == 0
    assert outbox.folder.parent.stat().st_mode & 0o070 == 0o070, "colleagues have theirs beside it"
