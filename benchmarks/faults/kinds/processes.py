"""Faults of processes: killed, stopped, a node that is gone."""

from __future__ import annotations

import os
import subprocess
import time
from typing import Any

from namespaces import two_namespaces, why_not
from scene import kill, processes_called

from kinds.base import HERE, RESUMES, Place, Row, fault, last_trained, row, start_driver
from orchestrator.driver import Outcome
from orchestrator.work.events import SlotDown
from orchestrator.work.failures import death_in_words
from orchestrator.work.shown import EpochShown


@fault("Train worker SIGKILL")
def train_worker(place: Place) -> Row:
    scene, victim = place.scene("train-worker"), list[int]()

    def act() -> None:
        victim.append(last_trained(scene).pid)
        scene.strike()
        kill(*victim)

    scene.when(act, EpochShown, trial=1, epoch=2)
    outcome = scene.run()
    keys = {line.key for line in scene.lines() if line.pid in victim and line.at < scene.struck}
    unfinished = keys - {line.key for line in scene.lines() if line.pid in victim and line.what == "finished"}
    again = scene.next_epoch(scene.struck, lambda line: line.key in unfinished)
    detected = death_in_words(scene.told(SlotDown)[0].error)
    return row(scene, detected, again, outcome, told="slot .* restarting")


@fault("Tune actor SIGKILL")
def tune_actor(place: Place) -> Row:
    scene, found = place.scene("tune-actor"), list[float]()

    def act() -> None:
        before = processes_called(b"ray::ThinTrial", place.control)
        scene.strike()
        kill(*before)
        scene.wait(lambda: set(processes_called(b"ray::ThinTrial", place.control)) - set(before))
        found.append(round(time.time() - scene.struck, 1))

    scene.when(act, EpochShown, trial=1, epoch=2)
    outcome = scene.run()
    again = scene.next_epoch(scene.struck)
    detected = f"the trial's actor was replaced after {found[0]} s; its work had gone on"
    return row(scene, detected, again, outcome, told=None)


@fault("pool actor SIGKILL", group="pool")
def pool_actor(place: Place) -> Row:
    scene = place.scene("pool-actor")

    def act() -> None:
        pids = processes_called(b"ray::PoolActor", place.control)
        assert len(pids) == 1, pids
        scene.strike()
        kill(*pids)

    scene.when(act, EpochShown, trial=1, epoch=2)
    failed = scene.run()
    ended = round(time.time() - scene.struck, 1)
    assert failed.state == "failed", failed
    outcome = scene.run()
    again = scene.next_epoch(scene.struck + ended)
    recovered = None if again is None else round(ended + again, 1)
    return row(
        scene,
        f"after {ended} s the study ended: {failed.error}",
        recovered,
        outcome,
        told="work (queue|is gone)|run the same command",
    )


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
    return row(scene, detected, recovered, outcome, told=RESUMES)


@fault("a second driver")
def second_driver(place: Place) -> Row:
    scene, said = place.scene("second-driver"), list[Any]()

    def act() -> None:
        scene.strike()
        second = start_driver(scene)
        said.extend([second.communicate(timeout=170)[0], second.returncode])

    scene.when(act, EpochShown, trial=1, epoch=1)
    outcome = scene.run()
    lines = [line.replace(str(scene.folder), "…") for line in said[0].splitlines() if line.strip()]
    assert said[1] == 2, said
    found = row(scene, f"refused with exit code {said[1]}", 0.0, outcome, told=None)
    return {**found, "seen": lines[-2:], "told": " / ".join(lines[-2:])}


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
    return row(scene, gone[0], again, outcome, told="gone")
