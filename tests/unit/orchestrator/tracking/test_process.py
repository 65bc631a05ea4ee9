"""The process of a backend's client: its answers, its death, its end when another driver begins."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from orchestrator.tracking import Connection, Delivery
from orchestrator.tracking import operations as op
from orchestrator.tracking.outbox import open_outbox
from orchestrator.tracking.process import COMMAND, LOOK_S, BackendProcess, WriterError


def test_telling_does_not_import_mlflow() -> None:
    program = "import sys, orchestrator.tracking, orchestrator.statistics.ranking; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"mlflow", "torch", "ray", "scipy"} & set(done.stdout.split())


ECHO = """
import json, sys
about = json.loads(sys.stdin.readline())
for line in sys.stdin:
    asked = json.loads(line)
    operations = asked["arguments"].get("operations", [])
    runs = [operation["run"] for operation in operations]
    if "death" in runs:
        sys.exit(3)
    refused = [[operation, about["experiment"]] for operation in operations if operation["run"] == "refused"]
    error = "ConnectionError: away" if "away" in runs else None
    answer = {"refused": refused, "undecided": [], "lost": False}
    print(json.dumps({"answer": answer, "error": error}), flush=True)
"""


def test_a_process_writes_says_what_was_refused_and_is_started_again_after_its_death() -> None:
    connection = Connection(uri="uri", experiment="demo")
    writer = BackendProcess(connection, [sys.executable, "-S", "-c", ECHO])
    good, bad, away, death = (op.log(run) for run in ("good", "refused", "away", "death"))
    assert writer.write([good, bad, good]).refused == [(bad, "demo")]
    with pytest.raises(WriterError, match="ended with code 3"):
        writer.write([death])
    with pytest.raises(WriterError, match="ConnectionError: away"):
        writer.write([bad, away])
    assert writer.write([good]) == Delivery()
    writer.close()


def test_the_process_of_an_earlier_driver_ends_when_a_later_one_begins(tmp_path: Path) -> None:
    """Its driver may be stopped and would keep the lock for ever; nobody reads its answers."""
    folder = open_outbox(tmp_path, 1).folder
    connection = Connection(uri="nowhere", experiment="demo", outbox=str(folder))
    process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert process.stdin is not None
    process.stdin.write(json.dumps(asdict(connection)).encode() + b"\n")
    process.stdin.flush()
    lock = tmp_path / "writer.lock"
    until = time.monotonic() + 60
    while not lock.exists():
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    open_outbox(tmp_path, 2).close()
    assert process.wait(60) == 0
    process.stdin.close()


SLOW = """
import time
from pathlib import Path
from orchestrator.tracking import Backend

class Slow(Backend):
    schemes = ("slow",)

    def __init__(self, to):
        super().__init__(to)
        folder = Path(to.experiment)
        (folder / "changing").touch()
        while not (folder / "go on").exists():
            time.sleep(0.02)
        (folder / "changed").touch()

    def write(self, operations, *, late=False): ...
"""


def test_a_process_that_sets_a_database_up_ends_when_it_is_whole(tmp_path: Path) -> None:
    """MLflow changes a new database table by table: one that is left in between is of no use any more."""
    (tmp_path / "slow.py").write_text(SLOW)
    folder = open_outbox(tmp_path / "outbox", 1).folder
    connection = Connection(
        uri="slow:x", experiment=str(tmp_path), backend=f"{tmp_path}/slow.py:Slow", outbox=str(folder)
    )
    process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert process.stdin is not None
    for line in (asdict(connection), {"call": "open", "arguments": {}}):
        process.stdin.write(json.dumps(line).encode() + b"\n")
    process.stdin.flush()
    until = time.monotonic() + 60
    while not (tmp_path / "changing").exists():
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    open_outbox(tmp_path / "outbox", 2).close()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(4 * LOOK_S)
    (tmp_path / "go on").touch()
    process.wait(60)
    assert (tmp_path / "changed").exists()
    process.stdin.close()
