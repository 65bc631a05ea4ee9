"""The faults: each does real harm to a running study and reports what became of it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow_server import Server
from namespaces import two_namespaces, why_not
from scene import Line, Scene, kill, processes_called

from orchestrator.driver import Outcome
from orchestrator.failures import death_in_words
from orchestrator.ledger.documents import decode_state

HERE = Path(__file__).parent
OUTAGE_S = 60.0
LOCKED_S = 30.0
"""Longer than the 20 s for which MLflow's sqlite waits for a lock."""
TIMEOUT_S = 5.0
MOUNT_BYTES = 8 * 2**20
MARGIN = 4 * 2**30
"""Bytes beyond those in use at which Ray starts to kill, where its monitor is put to the test."""


@dataclass(frozen=True)
class Place:
    """Where scenes are set.

    Attributes:
        folder: holds one folder per scene.
        control: the folder that steers the workers of this process's Ray.
        database: of MLflow without a run; MLflow takes many seconds to make one.
    """

    folder: Path
    control: Path
    database: Path

    def scene(self, name: str, *overrides: str, **options: Any) -> Scene:
        return Scene(self.folder / name, self.control, *overrides, database=self.database, **options)


Row = dict[str, Any]


@dataclass(frozen=True)
class Fault:
    """A row of the table.

    Attributes:
        name: as the table says it.
        group: faults of one group share a Ray; a group that is a fault's own starts what it needs.
        injure: plays the scene.
    """

    name: str
    group: str
    injure: Callable[[Place], Row]


FAULTS: dict[str, Fault] = {}


def fault(name: str, group: str = "shared") -> Callable[[Callable[[Place], Row]], Callable[[Place], Row]]:
    """Register a fault under the name of its function."""

    def add(injure: Callable[[Place], Row]) -> Callable[[Place], Row]:
        FAULTS[injure.__name__] = Fault(name, group, injure)
        return injure

    return add


def row(scene: Scene, detected: str, recovered: float | None, outcome: Outcome, **more: Any) -> Row:
    return {
        "detected": detected,
        "seconds_to_recover": recovered,
        "seen": scene.seen(),
        "outcome": outcome.state,
        **scene.measures(),
        **more,
    }


def last_trained(scene: Scene) -> Line:
    """The last epoch of a trial's cell that was trained."""
    return [line for line in scene.lines() if line.what == "epoch" and line.kind == "train"][-1]


# Processes


@fault("Train worker SIGKILL")
def train_worker(place: Place) -> Row:
    scene, victim = place.scene("train-worker"), list[int]()

    def act() -> None:
        victim.append(last_trained(scene).pid)
        scene.strike()
        kill(*victim)

    scene.when(act, kind="epoch", trial=1, epoch=2)
    outcome = scene.run()
    keys = {line.key for line in scene.lines() if line.pid in victim and line.at < scene.struck}
    unfinished = keys - {line.key for line in scene.lines() if line.pid in victim and line.what == "finished"}
    again = scene.next_epoch(scene.struck, lambda line: line.key in unfinished)
    return row(scene, death_in_words(scene.told("slot", state="down")[0]["error"]), again, outcome)


@fault("Tune actor SIGKILL")
def tune_actor(place: Place) -> Row:
    scene, found = place.scene("tune-actor"), list[float]()

    def act() -> None:
        before = processes_called(b"ray::ThinTrial", place.control)
        scene.strike()
        kill(*before)
        scene.wait(lambda: set(processes_called(b"ray::ThinTrial", place.control)) - set(before))
        found.append(round(time.time() - scene.struck, 1))

    scene.when(act, kind="epoch", trial=1, epoch=2)
    outcome = scene.run()
    again = scene.next_epoch(scene.struck)
    detected = f"the trial's actor was replaced after {found[0]} s; its work had gone on"
    return row(scene, detected, again, outcome)


@fault("pool actor SIGKILL", group="pool")
def pool_actor(place: Place) -> Row:
    scene = place.scene("pool-actor")

    def act() -> None:
        pids = processes_called(b"ray::PoolActor", place.control)
        assert len(pids) == 1, pids
        scene.strike()
        kill(*pids)

    scene.when(act, kind="epoch", trial=1, epoch=2)
    failed = scene.run()
    ended = round(time.time() - scene.struck, 1)
    assert failed.state == "failed", failed
    outcome = scene.run()
    again = scene.next_epoch(scene.struck + ended)
    recovered = None if again is None else round(ended + again, 1)
    return row(scene, f"after {ended} s the study ended: {failed.error}", recovered, outcome)


@fault("driver SIGKILL", group="driver")
def driver(place: Place) -> Row:
    scene = place.scene("driver")
    first = start_driver(scene)
    scene.wait(lambda: [t for t in scene.store.load_trials() if t.number == 1 and len(t.epochs) >= 2])
    scene.strike()
    kill(first.pid)
    first.wait()
    orphans = {line.pid for line in scene.lines()}
    outcome = scene.run()
    recovered = scene.next_epoch(scene.struck, lambda line: line.pid not in orphans)
    killed, *_, last = scene.store.load_invocations()
    detected = (
        f"a dead process's lease was taken over (fence {killed.fence} → {last.fence}); "
        f"its invocation is left {killed.outcome!r}"
    )
    return row(scene, detected, recovered, outcome)


@fault("a second driver")
def second_driver(place: Place) -> Row:
    scene, said = place.scene("second-driver"), list[Any]()

    def act() -> None:
        scene.strike()
        second = start_driver(scene)
        said.extend([second.communicate(timeout=170)[0], second.returncode])

    scene.when(act, kind="epoch", trial=1, epoch=1)
    outcome = scene.run()
    lines = [line.replace(str(scene.folder), "…") for line in said[0].splitlines() if line.strip()]
    assert said[1] == 2, said
    found = row(scene, f"refused with exit code {said[1]}", 0.0, outcome)
    return {**found, "seen": lines[-2:]}


@fault("node loss", group="node")
def node_loss(place: Place) -> Row:
    """Two raylets with addresses of their own, a slot on each; everything on the second one dies."""
    if reason := why_not():
        raise RuntimeError(reason)
    size = ("slots.gpus=1", "slots.count=2", "search.trials=8")
    scene = place.scene("node-loss", *size, epoch_s=1.0)
    steered = {"PYTHONPATH": os.environ["PYTHONPATH"], "STAND_IN": str(place.control)}
    with two_namespaces(**steered) as cluster:
        for node in (cluster.head, cluster.other):
            cluster.start_node(node, cpus=3, gpus=1)
        command = cluster.command(cluster.head, str(HERE / "driver.py"), *scene.overrides)
        alone = {**cluster.variables, "RAY_ADDRESS": cluster.gcs, "PYTHONUNBUFFERED": "1"}
        driver = subprocess.Popen(
            command, env=alone, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        listening = scene.listen(driver)

        def in_mid_cell() -> set[int]:
            there, lines = cluster.pids(cluster.other), scene.lines()
            done = {line.key for line in lines if line.what == "finished"}
            return {
                line.pid
                for line in lines
                if line.pid in there and line.kind == "train" and line.key not in done and line.epoch == 2
            }

        scene.wait(in_mid_cell)
        lost = cluster.pids(cluster.other)
        scene.strike()
        cluster.kill(cluster.other)
        code = driver.wait(timeout=400)
        listening.join()
    lines = scene.lines()
    done = {line.key for line in lines if line.what == "finished" and line.at < scene.struck}
    in_work = {line.key for line in lines if line.pid in lost} - done
    assert in_work, "the lost node was at work"
    again = scene.next_epoch(scene.struck, lambda line: line.key in in_work)
    gone = [line for line in scene.seen() if "gone" in line] or scene.seen() or ["not at all"]
    outcome = Outcome(state="failed" if code else "complete")
    return row(scene, gone[0], again, outcome)


# Tracking


@fault(f"MLflow server stopped for {OUTAGE_S:.0f} s", group="stores")
def mlflow_server(place: Place) -> Row:
    folder = place.folder / "mlflow-server"
    folder.mkdir(parents=True, exist_ok=True)
    server = Server(folder)
    server.start()
    scene = place.scene("mlflow-server", "search.trials=20", epoch_s=1.4, uri=server.uri)

    def strike() -> None:
        server.kill()
        scene.strike()

    try:
        return tracking_row(scene, strike, OUTAGE_S, server.start)
    finally:
        server.kill()


@fault(f"tracking database locked for {LOCKED_S:.0f} s", group="stores")
def tracking_database(place: Place) -> Row:
    scene = place.scene("tracking-database", "search.trials=24", epoch_s=1.0)
    held: list[sqlite3.Connection] = []

    def strike() -> None:
        held.append(sqlite3.connect(scene.folder / "mlflow.db", check_same_thread=False, timeout=20))
        held[0].execute("BEGIN EXCLUSIVE")
        scene.strike()

    return tracking_row(scene, strike, LOCKED_S, lambda: held[0].close())


def tracking_row(scene: Scene, strike: Callable[[], None], seconds: float, mend: Callable[[], None]) -> Row:
    found: dict[str, Any] = {}

    def act() -> None:
        assert scene.tracker is not None
        scene.wait(scene.mlflow_runs)
        strike()
        before = len(scene.lines())
        time.sleep(seconds)
        found["error"] = scene.tracker.last_error
        found["trained"] = len(scene.lines()) - before
        mend()
        scene.mend()
        scene.wait(lambda: scene.tracker.flush(0.1))
        found["after"] = round(time.time() - scene.mended, 1)

    scene.when(act, kind="epoch", trial=0, epoch=2)
    outcome = scene.run()
    lost = runs_missing(scene)
    detected = f"{found['error'] or 'the call waits'}; {found['trained']} epochs of cells trained meanwhile"
    return row(scene, detected, found["after"], outcome, mlflow_runs_missing=lost)


def runs_missing(scene: Scene) -> int:
    """Runs of trials and cells that MLflow should show and does not."""
    shown = {run.data.tags["mmap.run"] for run in scene.mlflow_runs()}
    trials = scene.store.load_trials()
    wanted = {f"trial/{t.number}" for t in trials}
    wanted |= {f"trial/{t.number}/cell/{key}" for t in trials for key in t.keys}
    return len(wanted - shown)


# Storage


@fault("storage full", group="stores")
def storage_full(place: Place) -> Row:
    scene = place.scene("storage-full", "search.trials=6", epoch_s=1.0)
    filler = scene.folder / "runs" / "filler"

    def act() -> None:
        with filler.open("wb", buffering=0) as file:
            scene.strike()
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
        scene.wait(lambda: scene.told("waiting"))
        time.sleep(10)
        filler.unlink()
        scene.mend()

    return storage_row(scene, act)


@fault(f"storage unreachable for {OUTAGE_S:.0f} s", group="stores")
def storage_unreachable(place: Place) -> Row:
    scene = place.scene("storage-unreachable", "search.trials=6", epoch_s=1.0)
    runs, elsewhere = scene.folder / "runs", scene.folder / "elsewhere"
    elsewhere.mkdir()

    def act() -> None:
        scene.strike()
        mount("--move", str(runs), str(elsewhere))
        time.sleep(OUTAGE_S)
        mount("--move", str(elsewhere), str(runs))
        scene.mend()

    return storage_row(scene, act)


def storage_row(scene: Scene, act: Callable[[], None]) -> Row:
    """The records lie in a file system of their own, in memory."""
    runs = scene.folder / "runs"
    runs.mkdir()
    mount("-t", "tmpfs", "-o", f"size={MOUNT_BYTES}", "tmpfs", str(runs))
    try:
        mount("--make-private", str(runs))
        scene.when(act, kind="epoch", trial=1, epoch=2)
        outcome = scene.run()
        waits = scene.told("waiting")
        detected = waits[0]["text"].replace(str(scene.folder), "…") if waits else "not at all"
        strays = [path.name for path in runs.iterdir() if path.name.startswith("filler")]
        assert not strays, strays
        again = scene.next_epoch(scene.mended)
        return row(scene, detected, again, outcome, mlflow_runs_missing=runs_missing(scene))
    finally:
        subprocess.run(["umount", "-l", str(runs)], check=False)


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


# Records


@fault("a truncated cell record", group="stores")
def truncated_record(place: Place) -> Row:
    """Cut while the study runs; the next run of the study, which reads it to see what is left, finds out."""
    scene, victim = place.scene("truncated-record"), list[Path]()

    def act() -> None:
        trial = scene.store.load_trial(0)
        assert trial is not None and trial.state == "complete"
        victim.append(scene.folder / "runs" / "cells" / trial.keys[0] / "record.json")
        scene.strike()
        truncate(victim[0])

    scene.when(act, kind="trial", number=0, state="complete")
    scene.run()
    scene.mend()
    outcome = scene.run()
    whole = victim[0].stat().st_mtime
    aside = [path.name for path in (scene.folder / "runs" / "quarantine").iterdir()]
    assert len(aside) == 1, aside
    return row(
        scene,
        f"moved to quarantine/{aside[0][:14]}…, its copy took its place",
        round(whole - (scene.mended if whole > scene.mended else scene.struck), 1),
        outcome,
    )


@fault("a truncated checkpoint", group="stores")
def truncated_checkpoint(place: Place) -> Row:
    """The state of a batch in training is cut, then its worker killed, so that it has to be read."""
    scene, victim = place.scene("truncated-checkpoint"), list[Line]()

    def act() -> None:
        states = {path: decode_state(path.read_bytes())[0] for path in scene.states()}
        of_trial = {path: state for path, state in states.items() if state["about"]["trial"] == 1}
        latest = max(of_trial, key=lambda path: of_trial[path]["epoch"])
        keys = of_trial[latest]["active"]
        victim.append(next(line for line in reversed(scene.lines()) if line.key == keys[0]))
        scene.strike()
        kill(victim[0].pid)
        truncate(latest)

    scene.when(act, kind="epoch", trial=1, epoch=3)
    outcome = scene.run()
    again = scene.next_epoch(scene.struck, lambda line: line.key == victim[0].key)
    aside = [path.name for path in (scene.folder / "runs" / "quarantine").iterdir()]
    resumed = next(
        cell["epoch"]
        for event in scene.told("cells")
        for cell in event["cells"]
        if cell["key"] == victim[0].key
    )
    detected = f"moved to quarantine/{aside[0][:17]}…, resumed after epoch {resumed} of {victim[0].epoch}"
    return row(scene, detected, again, outcome)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


# Cells


@fault("a cell that raises")
def cell_raises(place: Place) -> Row:
    return cell_row(place.scene("cell-raises"), "raises")


@fault("a cell that returns NaN")
def cell_nan(place: Place) -> Row:
    return cell_row(place.scene("cell-nan"), "nan")


@fault("a cell that hangs")
def cell_hangs(place: Place) -> Row:
    return cell_row(place.scene("cell-hangs", f"slots.cell_timeout_s={TIMEOUT_S:g}"), "hangs")


@fault("out of memory: the cell asks for too much")
def out_of_memory(place: Place) -> Row:
    return cell_row(place.scene("out-of-memory"), "asks_for_too_much")


@fault("out of memory: Ray kills the worker", group="memory")
def killed_for_memory(place: Place) -> Row:
    """Ray's own memory monitor, told to act at little more than what is taken now."""
    total, free = memory()
    threshold = min(0.95, (total - free + MARGIN) / total)
    os.environ.update(RAY_memory_usage_threshold=f"{threshold:.3f}", RAY_memory_monitor_refresh_ms="100")
    return cell_row(place.scene("killed-for-memory", "slots.count=1"), "takes_all_memory")


def cell_row(scene: Scene, name: str) -> Row:
    """One batch of one trial is hit; the others of the study go on."""
    scene.when(lambda: scene.arm(name), kind="trial", number=0, state="complete")
    outcome = scene.run()
    at, keys = scene.hit(name)
    failures = [f for f in scene.ledger.failures(keys).values() if f["failed_at"]]
    first = failures[0]
    detected = (
        f"{len(failures)} cells of trial {first['trial']} failed, kind {first['kind']}: {first['error']}"
    )
    again = scene.next_epoch(at, lambda line: line.key not in keys)
    states = [trial.state for trial in scene.store.load_trials()]
    assert states.count("failed") == 1 and states.count("complete") == 3, states
    return row(scene, first_line(detected), again, outcome)


def memory() -> tuple[int, int]:
    """Bytes of the machine, and of those available."""
    found = {}
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, value, *_ = line.split()
        found[name.rstrip(":")] = int(value) * 1024
    return found["MemTotal"], found["MemAvailable"]


def first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def start_driver(scene: Scene) -> subprocess.Popen[str]:
    """A driver of the scene's study in a process of its own."""
    return subprocess.Popen(
        [sys.executable, str(HERE / "driver.py"), *scene.overrides],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
