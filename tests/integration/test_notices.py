"""Real runs whose receiver is away for two minutes, and whose driver is killed: nothing is lost."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from orchestrator.ledger import StudyStore

pytestmark = pytest.mark.slow

AWAY_S = 120.0
LONGEST_GAP_S = 15.0
PATIENCE = 600.0


@contextmanager
def receiving(port: int = 0) -> Iterator[tuple[int, list[dict[str, Any]], threading.Event]]:
    """A receiver: its port, what it took, and an event set by each message."""
    took: list[dict[str, Any]] = []
    arrived = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            took.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()
            arrived.set()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1]), took, arrived
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def event_of(message: dict[str, Any]) -> tuple[str, str]:
    return message["title"], re.findall(r"event (\w+)", message["message"])[-1]


def test_a_receiver_that_is_away_for_two_minutes_holds_up_nothing_and_hears_everything_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestrator.driver.notifying import RunNotices
    from orchestrator.notices.reporter import Ended
    from orchestrator.study.notify import Notify
    from orchestrator.work.shown import BudgetShown, SlotShown, SweepShown

    with receiving() as (port, _, _):
        pass
    monkeypatch.setenv("NOTIFY_TEST", f"json://127.0.0.1:{port}/hook")
    store = StudyStore(str(tmp_path / "runs"), "demo")
    notices = RunNotices(Notify(to=("NOTIFY_TEST",)), store, "r1", "orchestrator sweep demo")
    progress = notices.beside(lambda event: None)
    for event in (
        SweepShown(study="demo", trials=3),
        BudgetShown(budget="search.hours = 2", running=1),
        SlotShown(slot="0", state="stopped", what="CUDA error"),
    ):
        progress(event)
    threading.Event().wait(AWAY_S)
    with receiving(port) as (_, took, arrived):
        while len(took) < 2:
            arrived.clear()
            assert arrived.wait(2 * 60), "it is asked once a minute"
        notices.ended(Ended(state="complete"))
        assert notices.close(lambda: False) is None
        told = Counter(event_of(message) for message in took)
    assert set(told.values()) == {1}
    assert sorted(title for title, _ in told) == [
        "demo: finished",
        "demo: slot 0 takes no more work",
        "demo: the budget is spent (search.hours = 2)",
    ]


@pytest.mark.ray
def test_a_real_sweep_tells_of_its_death_and_its_end_and_its_log_is_never_silent_for_long(
    tiny_study: Path, tmp_path: Path
) -> None:
    with receiving() as (port, took, _):
        sweep = Sweep(tiny_study, tmp_path, f"json://me:pa55word@127.0.0.1:{port}/t0psecret")
        sweep.kill_in_training()
        for _ in range(2):
            sweep.run("status", "tiny", "--storage", str(tmp_path / "runs"))
        assert [message["title"] for message in took] == ["tiny: its driver died, nothing runs"]
        sweep.run(*sweep.command)
        sweep.run(*sweep.command)
        assert [message["title"] for message in took[1:]] == ["tiny: finished"]
    assert "Winner" in took[-1]["message"]
    gaps = [max(_gaps(log)) for log in sweep.logs if log.count("\n") > 1]
    assert gaps and max(gaps) <= LONGEST_GAP_S, gaps
    said = "".join(
        [*sweep.logs, *(p.read_text(errors="replace") for p in (tmp_path / "runs").rglob("*.json"))]
    )
    assert "pa55word" not in said and "t0psecret" not in said
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert {"run", "phase", "slot", "work", "trial", "epoch"} <= {event["event"] for event in events}


class Sweep:
    """A study run by the command line, in processes of its own.

    Attributes:
        logs: what each of them said on standard error.
    """

    def __init__(self, study: Path, folder: Path, url: str) -> None:
        self.command = [
            *("sweep", str(study), f"storage={folder / 'runs'}", "notify=NOTIFY_TEST"),
            *(f"tracking.uri=sqlite:///{folder / 'mlflow.db'}", "--events", str(folder / "events.jsonl")),
        ]
        self._folder, self._store = folder, StudyStore(str(folder / "runs"), "tiny")
        self._environment = {**os.environ, "NOTIFY_TEST": url, "OMP_NUM_THREADS": "1"}
        self.logs: list[str] = []

    def run(self, *command: str) -> None:
        process = self._start(*command)
        _, log = process.communicate(timeout=PATIENCE)
        self.logs.append(log)
        assert process.returncode == 0, log

    def kill_in_training(self) -> None:
        process, until = self._start(*self.command), time.monotonic() + PATIENCE
        while not any(trial.epochs for trial in self._store.load_trials()):
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        self.logs.append(process.communicate(timeout=60)[1])

    def _start(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "orchestrator", *command],
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )


def _gaps(log: str) -> list[float]:
    """Seconds between the lines of a log that have a time."""
    stamps = re.findall(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ) ", log, re.MULTILINE)
    times = [datetime.fromisoformat(stamp) for stamp in stamps]
    return [(later - earlier).total_seconds() for earlier, later in itertools.pairwise(times)] or [0.0]
