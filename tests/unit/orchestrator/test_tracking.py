"""What is told to MLflow, and that nothing told is lost: with a pretended server and real kills."""

from __future__ import annotations

import errno
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.tracking import Tracker, TrackingError, check_tracking, courier, default_uri
from orchestrator.tracking import operations as op
from orchestrator.tracking.delivery import Delivery
from orchestrator.tracking.metric_names import distinct_names, metric_name, stated
from orchestrator.tracking.narration import Narration
from orchestrator.tracking.outbox import Operation, Outbox, open_outbox
from orchestrator.tracking.process import COMMAND, Connection, ProcessWriter, WriterError
from orchestrator.tracking.row import Row

POINT = {
    "method": "mmap",
    "settings": {"prompt_length": 4, "source_rows": 2, "source_cols": 16, "scale_init": None},
    "recipe": {"lr": 0.0035, "epochs": 2},
    "grouping": {"mode": "gradient", "probe": {"prompt_length": 4}},
}
AT = "2026-11-21T12:00:00.000000+00:00"


class Server:
    """Keeps runs as MLflow would; fails on request."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.down = False
        self.refused = ""
        self.odd = ""
        self.heard: str | None = None
        self.forgets = False
        self.attempts = threading.Semaphore(0)
        self.meanwhile: Callable[[], None] = lambda: None

    def open(self) -> str | None:
        if self.down:
            self.attempts.release()
            raise ConnectionError("nobody listens")
        return self.heard

    def write(self, operations: Sequence[Operation], *, late: bool = False) -> Delivery:
        self.attempts.release()
        if self.down:
            raise ConnectionError("nobody listens")
        delivery = Delivery()
        for operation in operations:
            if self.refused and operation["run"] == self.refused:
                delivery.refused.append((operation, "INVALID_PARAMETER_VALUE"))
            elif self.odd and operation["run"] == self.odd:
                delivery.undecided.append((operation, "400: <html>s3://key:secret@bucket</html>"))
            else:
                self.operations.append(operation)
        if self.forgets:
            self.forgets, self.operations, delivery.lost = False, [], True
        self.meanwhile()
        return delivery

    def finish(self, mark: str) -> None:
        self.heard = mark

    def close(self) -> None: ...

    def of(self, run: str, kind: str) -> list[Operation]:
        return [o for o in self.operations if o["run"] == run and o["op"] == kind]

    def metrics(self, run: str) -> dict[str, list[tuple[int, float]]]:
        found: dict[str, list[tuple[int, float]]] = {}
        for operation in self.of(run, "log"):
            for name, value, step, _ in operation["metrics"]:
                found.setdefault(name, []).append((step, value))
        return found


@pytest.fixture
def server() -> Server:
    return Server()


def tracker_on(server: Server, folder: Path, **about: Any) -> Tracker:
    narration = Narration(study="demo", locate=lambda key: f"/c/{key}")
    return Tracker("pretended", folder, connect=lambda: server, narration=narration, **about)


@pytest.fixture
def tracker(server: Server, tmp_path: Path) -> Iterator[Tracker]:
    tracker = tracker_on(server, tmp_path / "outbox")
    yield tracker
    server.down = False
    tracker.close(5)


def cells(**changes: Any) -> dict[str, Any]:
    rows = [
        {
            "key": f"k{seed}",
            "split": "3-shot",
            "seed": str(seed),
            "partition": [[0, 1], [2, 3]],
            "parameters": 99,
            "status": "new",
            "epoch": 0,
            "origin": None,
            "dataset": "d" * 32,
            "backbone": "b" * 32,
            **changes,
        }
        for seed in (1, 2)
    ]
    return {"kind": "cells", "cells": rows}


def epoch(number: int, *values: float) -> dict[str, Any]:
    reports = {
        f"k{seed}": {"epoch": number, "at": AT, "accuracy": value, "train_loss": 1.0, "lr": 0.1, "nll": None,
                     "tasks": {"Real World": {"accuracy": value}}, "seconds": {"train": 0.5}}
        for seed, value in enumerate(values, start=1)
    }  # fmt: skip
    return {"kind": "epoch", "epoch": number, "values": list(values), "mean": 0.0, "cells": reports}


def test_a_trial_becomes_a_run_with_a_child_per_cell(tracker: Tracker, server: Server) -> None:
    tracker.trial_started(3, POINT, started_at=AT)
    tracker.event(3, cells())
    tracker.event(3, epoch(1, 0.4, 0.6))
    tracker.event(3, {"kind": "cell_finished", "key": "k1", "metrics": {}, "seconds": {"train": 2.0}})
    tracker.trial_ended(3, "complete", device_seconds=4.5, parameters=99, share=0.001)
    assert tracker.flush(5)
    begin = server.of("trial/3", "start")[0]
    assert (
        begin["params"]["settings.prompt_length"] == "4"
        and begin["params"]["grouping.probe.prompt_length"] == "4"
    )
    assert begin["tags"]["study"] == "demo" and begin["tags"]["trial"] == "3"
    child = server.of("trial/3/cell/k2", "start")[0]
    assert (child["parent"], child["name"]) == ("trial/3", "seed 2 · 3-shot")
    assert child["tags"]["ledger"] == "/c/k2" and child["tags"]["cell"] == "k2"
    assert child["tags"]["dataset_manifest"] == "d" * 32 and "reused_from" not in child["tags"]
    means = server.metrics("trial/3")
    assert means["val_accuracy_mean"] == [(1, 0.5)] and means["val_accuracy_n"] == [(1, 2.0)]
    assert means["val_accuracy_std"][0][1] == pytest.approx(0.1414, rel=1e-3)
    assert means["parameters"][0] == (0, 99.0) and means["device_seconds"] == [(0, 4.5)]
    curves = server.metrics("trial/3/cell/k2")
    assert curves["val_accuracy"] == curves["val_accuracy/Real World"] == [(1, 0.6)]
    assert curves["train_loss"] == [(1, 1.0)] and "val_nll" not in curves
    assert [o["status"] for o in server.of("trial/3", "end")] == ["FINISHED"]
    assert [o["status"] for o in server.of("trial/3/cell/k1", "end")] == ["FINISHED"]


def test_a_reused_cell_says_where_it_came_from(tracker: Tracker, server: Server) -> None:
    origin = {"study": "earlier", "trial": 7, "invocation": "x"}
    for trial in (0, 1):
        tracker.trial_started(trial, POINT)
    tracker.event(0, cells(status="finished", origin=origin))
    tracker.event(0, epoch(1, 0.4, 0.6))
    tracker.event(1, cells(status="finished", origin={**origin, "study": "demo", "trial": 1}))
    assert tracker.flush(5)
    reused = server.of("trial/0/cell/k1", "start")[0]
    assert reused["tags"]["reused_from"] == "study earlier, trial 7"
    assert server.of("trial/0/cell/k1", "end") and server.metrics("trial/0/cell/k1")["val_accuracy"]
    assert "reused_from" not in server.of("trial/1/cell/k1", "start")[0]["tags"], "its own cell, seen again"


@pytest.mark.parametrize(
    ("state", "status"), [("pruned", "KILLED"), ("failed", "FAILED"), ("interrupted", "KILLED")]
)
def test_how_a_trial_ended(tracker: Tracker, server: Server, state: str, status: str) -> None:
    tracker.trial_started(0, POINT)
    tracker.event(0, cells())
    tracker.event(0, {"kind": "cell_failed", "key": "k1", "error": "diverged"})
    tracker.trial_ended(0, state, error="diverged")
    assert tracker.flush(5)
    assert [o["status"] for o in server.of("trial/0", "end")] == [status]
    assert [o["status"] for o in server.of("trial/0/cell/k1", "end")] == ["FAILED"]
    assert [o["status"] for o in server.of("trial/0/cell/k2", "end")] == [status]


def test_no_secret_gets_into_a_tag_or_a_message(
    tracker: Tracker, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2hunter2")
    tracker.trial_started(0, POINT)
    tracker.event(0, cells())
    tracker.event(0, {"kind": "cell_failed", "key": "k1", "error": "s3://key:secret@bucket hunter2hunter2"})
    tracker.trial_ended(0, "failed", error="s3://key:secret@bucket hunter2hunter2")
    assert tracker.flush(5)
    tags = [tag for operation in server.operations for tag in operation.get("tags", {}).values()]
    assert tags.count("s3://bucket ***") == 2
    assert not [tag for tag in tags if "secret@" in tag or "hunter2" in tag]


def score_of(accuracy: float) -> dict[str, Any]:
    metrics = {"accuracy": accuracy, "tasks": {"a": {"accuracy": accuracy}}}
    return {"metrics": metrics, "scored_at": AT}


def test_test_numbers_of_finalists(tracker: Tracker, server: Server) -> None:
    tracker.trial_tested(0, cells()["cells"], {"k1": score_of(0.3), "k2": score_of(0.5)})
    assert tracker.flush(5)
    assert server.metrics("trial/0/cell/k1") == {"test_accuracy": [(0, 0.3)], "test_accuracy/a": [(0, 0.3)]}
    assert server.metrics("trial/0")["test_accuracy_mean"] == [(0, 0.4)]


@pytest.mark.usefixtures("impatient")
def test_a_dead_server_loses_nothing_and_holds_up_nothing(tracker: Tracker, server: Server) -> None:
    server.down = True
    tracker.trial_started(0, POINT)
    server.attempts.acquire(timeout=10)
    tracker.event(0, cells())
    assert not tracker.flush(0.05)
    server.down = False
    assert tracker.flush(30)
    runs = [o["run"] for o in server.operations if o["op"] == "start"]
    assert set(runs) == {"trial/0", "trial/0/cell/k1", "trial/0/cell/k2"}


def test_closing_while_the_server_is_dead_says_how_to_go_on(server: Server, tmp_path: Path) -> None:
    server.down = True
    first = tracker_on(server, tmp_path)
    first.trial_started(0, POINT)
    told = first.close(0.2)
    assert told.note is not None and "orchestrator track demo" in told.note and "nobody listens" in told.note
    assert not told.delivered and not first.complete
    server.down = False
    assert tracker_on(server, tmp_path).close(10).note is None
    assert [o["run"] for o in server.operations] == ["trial/0"]


@pytest.mark.parametrize("told_before", [None, ""])
def test_the_end_waits_for_a_slow_server_as_long_as_it_takes_something(
    server: Server, tmp_path: Path, told_before: str | None
) -> None:
    now = [0.0]
    calls = []

    def slow(operations: Sequence[Operation], *, late: bool = False) -> Delivery:
        calls.append(len(operations))
        now[0] += 25.0
        return Server.write(server, operations, late=late)

    server.write = slow  # type: ignore[method-assign]
    story = [recorded(trial) for trial in range(40)] if told_before is None else []
    tracker = tracker_on(
        server, tmp_path, story=lambda runs: iter(story), told_up_to=told_before, clock=lambda: now[0]
    )
    for trial in range(40) if told_before is not None else ():
        tracker.trial_started(trial, POINT)
        tracker.event(trial, cells())
        tracker.event(trial, epoch(1, 0.5, 0.7))
    told = tracker.close(30.0)
    assert told.note is None and told.delivered
    assert len(calls) > 1 and now[0] > 30.0, "all of it took longer than one answer may"
    assert sum(operation["op"] == "start" for operation in server.operations) == 40 * 3


def test_the_end_waits_no_longer_when_the_user_is_in_a_hurry(server: Server, tmp_path: Path) -> None:
    released = threading.Event()

    def stuck(operations: Sequence[Operation], *, late: bool = False) -> Delivery:
        released.wait(60)
        return Server.write(server, operations, late=late)

    server.write = stuck  # type: ignore[method-assign]
    tracker = tracker_on(server, tmp_path)
    tracker.trial_started(0, POINT)
    told = tracker.close(3600.0, hurry=lambda: True)
    released.set()
    assert not told.delivered and "has not received all updates" in (told.note or "")


@pytest.mark.usefixtures("impatient")
def test_trouble_that_is_over_is_not_quoted_at_the_end(server: Server, tmp_path: Path) -> None:
    server.down = True
    tracker = tracker_on(server, tmp_path)
    tracker.trial_started(0, POINT)
    for _ in range(2):
        assert server.attempts.acquire(timeout=10)
    assert tracker.last_error is not None
    server.down = False
    assert tracker.flush(60) and tracker.last_error is None
    assert tracker.close(30.0).note is None


def test_what_is_refused_is_put_aside_counted_and_shown(tmp_path: Path, server: Server) -> None:
    server.refused = "trial/0"
    tracker = tracker_on(server, tmp_path, fence=3)
    tracker.trial_started(0, POINT)
    tracker.trial_started(1, POINT)
    told = tracker.close(10)
    assert {o["run"] for o in server.operations} == {"trial/1"}
    assert told.delivered and told.refused and told.note is not None and str(told.refused_file) in told.note
    assert told.refused == len(Path(str(told.refused_file)).read_text().splitlines())
    refused = json.loads(Path(str(told.refused_file)).read_text().splitlines()[0])
    assert refused["reason"] == "INVALID_PARAMETER_VALUE" and refused["operation"]["run"] == "trial/0"
    assert not tracker.complete and server.heard is None, "the next run tells it again"


def test_many_threads_tell_without_tearing(tracker: Tracker, server: Server) -> None:
    def tell(trial: int) -> None:
        for _ in range(20):
            tracker.trial_started(trial, POINT)

    threads = [threading.Thread(target=tell, args=(trial,)) for trial in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tracker.flush(10)
    assert len(server.operations) >= 160


def test_the_outbox_survives_a_kill(tmp_path: Path, server: Server) -> None:
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
    assert tracker_on(server, tmp_path).close(30).note is None
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


def test_run_names() -> None:
    partitions = [[[0, 1], [2, 3]], [[0, 2], [1, 3]]]
    assert op.trial_name(3, POINT, partitions) == "trial 3 · b=4 m=2 n=16 · G=2 · lr 0.0035"
    assert op.trial_name("zero_shot", {"method": "zero_shot", "settings": {}}) == "zero-shot"
    assert op.trial_name(0, {"method": "coop", "recipe": {"lr": 0.002}}) == "trial 0 · coop · lr 0.002"
    assert metric_name("val_accuracy/10%") == "val_accuracy/10pct"


def test_a_mean_per_split_where_there_are_several() -> None:
    rows = [{"split": s, "seed": x} for s in ("3-shot", "6-shot") for x in ("1", "2")]
    metrics = {name: value for name, value, _, _ in op.mean_metrics(rows, [0.2, 0.4, 0.6, 0.8], 1, 0)}
    assert metrics["val_accuracy_mean"] == pytest.approx(0.5) and metrics["val_accuracy_n"] == 2
    assert metrics["val_accuracy_mean/6-shot"] == pytest.approx(0.7)


def test_a_usable_sqlite_file_passes_and_is_not_left_behind(tmp_path: Path) -> None:
    check_tracking(f"sqlite:///{tmp_path}/new/mlflow.db")
    assert not (tmp_path / "new/mlflow.db").exists()
    sqlite3.connect(tmp_path / "old.db").execute("CREATE TABLE t (x)").connection.commit()
    check_tracking(f"sqlite:///{tmp_path}/old.db")


@pytest.mark.parametrize(
    "uri",
    [
        "sqlite:///{tmp}/text.db",
        "sqlite:////proc/nowhere/mlflow.db",
        "sqlite:///",
        "file:///{tmp}/mlruns",
        "mlruns",
        "http://127.0.0.1:9",
    ],
)
def test_an_unusable_tracking_uri_is_an_input_error(tmp_path: Path, uri: str) -> None:
    (tmp_path / "text.db").write_text(
        "this is no database, only text that is long enough to be looked at" * 20
    )
    with pytest.raises(TrackingError, match=r"tracking\.uri") as caught:
        check_tracking(uri.format(tmp=tmp_path), timeout=1)
    assert caught.value.fix


def test_the_environment_names_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert default_uri() == "sqlite:///mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    assert default_uri() == "http://tracking:5000"


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
    writer = ProcessWriter(connection, [sys.executable, "-S", "-c", ECHO])
    good, bad, away, death = (op.log(run) for run in ("good", "refused", "away", "death"))
    assert writer.write([good, bad, good]).refused == [(bad, "demo")]
    with pytest.raises(WriterError, match="ended with code 3"):
        writer.write([death])
    with pytest.raises(WriterError, match="ConnectionError: away"):
        writer.write([bad, away])
    assert writer.write([good]) == Delivery()
    writer.close()


# What a server or a disk does to the news


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier, "BACKOFF", (0.01,))
    monkeypatch.setattr(courier, "LINGER", 0.01)


@pytest.mark.usefixtures("impatient")
def test_what_only_a_proxy_refuses_is_tried_ten_times_alone_and_holds_up_nothing(
    tmp_path: Path, server: Server
) -> None:
    server.odd = "trial/0"
    tracker = tracker_on(server, tmp_path)
    tracker.trial_started(0, POINT)
    while not server.attempts.acquire(timeout=10):
        pass
    tracker.trial_started(1, POINT)
    told = tracker.close(30)
    assert "trial/1" in {o["run"] for o in server.operations}
    assert told.refused == 1
    lines = Path(str(told.refused_file)).read_text().splitlines()
    assert all("<html>s3://bucket" in json.loads(line)["reason"] for line in lines), "without secrets"


@pytest.mark.usefixtures("impatient")
def test_a_proxy_that_comes_to_its_senses_loses_nothing(tmp_path: Path, server: Server) -> None:
    server.odd = "trial/0"
    tracker = tracker_on(server, tmp_path)
    tracker.trial_started(0, POINT)
    for _ in range(4):
        assert server.attempts.acquire(timeout=10)
    server.odd = ""
    told = tracker.close(30)
    assert (told.refused, told.note) == (0, None) and server.of("trial/0", "start")


def recorded(trial: int) -> Row:
    row = Row(trial=trial, point=POINT, started_at=AT, cells=cells(status="finished")["cells"])
    row.add_epoch(1, epoch(1, 0.4, 0.6)["cells"])
    return row


@pytest.mark.usefixtures("impatient")
def test_a_server_that_lost_the_study_is_told_all_of_it_again(tmp_path: Path, server: Server) -> None:
    server.heard = "2"
    story = [recorded(0), recorded(1)]
    tracker = tracker_on(server, tmp_path, fence=3, told_up_to="2", story=lambda runs: iter(story))
    tracker.trial_started(2, POINT)
    tracker.event(2, cells())
    assert tracker.flush(10) and not server.of("trial/0", "start"), "told already, by an earlier driver"
    server.forgets = True
    tracker.event(2, epoch(1, 0.1, 0.2))
    assert tracker.close(10).note is None
    for trial in (0, 1, 2):
        assert (
            server.of(f"trial/{trial}", "start") and server.metrics(f"trial/{trial}/cell/k1")["val_accuracy"]
        )
    assert server.heard == "3"


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("heard", [None, "", "1"])
def test_a_server_that_does_not_remember_the_last_driver_is_told_again(
    tmp_path: Path, server: Server, heard: str | None
) -> None:
    server.heard = heard
    tracker = tracker_on(server, tmp_path, fence=3, told_up_to="2", story=lambda runs: iter([recorded(0)]))
    assert tracker.close(10).note is None
    assert server.of("trial/0", "start") and server.heard == "3"


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("cut", ["truncated", "removed"])
def test_news_gone_from_the_disk_is_told_from_what_is_known(tmp_path: Path, server: Server, cut: str) -> None:
    server.down = True
    tracker = tracker_on(server, tmp_path, story=lambda runs: iter([recorded(0)]))
    tracker.trial_started(1, POINT)
    tracker.event(1, cells())
    (segment,) = (tmp_path / "0").glob("0*.jsonl")
    if cut == "removed":
        segment.unlink()
    else:
        os.truncate(segment, 10)
    server.down = False
    assert tracker.close(20).note is None
    assert {"trial/0", "trial/1", "trial/1/cell/k2"} <= {o["run"] for o in server.operations}


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


@pytest.mark.usefixtures("impatient")
def test_a_driver_stopped_between_check_and_write_sets_right_what_it_overwrote(
    tmp_path: Path, server: Server
) -> None:
    current = threading.Event()
    current.set()
    ended = recorded(0)
    told_again: list[Any] = []

    def story(runs: Any) -> Iterator[Row]:
        told_again.append(runs)
        yield from [ended] if runs else []

    tracker = tracker_on(server, tmp_path, fence=1, story=story, told_up_to="", is_current=current.is_set)
    server.heard = ""
    server.meanwhile = current.clear  # stopped in the middle of the call; a second driver finished meanwhile
    tracker.trial_started(0, POINT)
    tracker.event(0, cells())
    told = tracker.close(10)
    assert told_again == [{"trial/0"}], "only what the call touched, as the records have it"
    assert server.of("trial/0/cell/k1", "end")[-1]["status"] == "FINISHED"
    assert told.note is not None and "Another driver" in told.note and not tracker.complete
    assert server.heard == ""


# Names


@pytest.mark.parametrize("order", [1, -1])
def test_tasks_whose_names_look_alike_to_mlflow_have_curves_of_their_own(order: int) -> None:
    tasks = ["R&D", "R+D", "R_D", "Real World", "10%"][::order]
    names = distinct_names(tasks)
    assert len(set(names.values())) == 5
    assert (names["R_D"], names["Real World"], names["10%"]) == ("R_D", "Real World", "10pct")
    assert names["R&D"].startswith("R_D-") and names["R+D"].startswith("R_D-")
    tags = stated(tasks)
    assert tags[f"metric_name/{names['R&D']}"] == "R&D" and "metric_name/R_D" not in tags
    report = {
        "epoch": 1,
        "at": AT,
        "accuracy": 0.5,
        "tasks": {t: {"accuracy": i} for i, t in enumerate(tasks)},
    }
    curves = {name: value for name, value, _, _ in op.epoch_metrics(report)}
    assert [curves[f"val_accuracy/{names[task]}"] for task in tasks] == [0, 1, 2, 3, 4]


@settings(deadline=None)
@given(st.lists(st.text(min_size=1, max_size=300), max_size=8, unique=True), st.randoms())
def test_names_are_one_to_one_in_any_order_and_mlflow_takes_them(originals: list[str], draw: Any) -> None:
    from mlflow.utils.validation import _validate_metric_name

    names = distinct_names(originals)
    assert len(set(names.values())) == len(originals)
    shuffled = list(originals)
    draw.shuffle(shuffled)
    assert distinct_names(shuffled) == names
    for name in names.values():
        _validate_metric_name(f"val_accuracy/{name}")


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
