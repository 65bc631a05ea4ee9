"""Faults of processes that are stopped and continued, and signals to the driver."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable

from scene import Scene, processes_called

from kinds.base import RESUMES, Place, Row, fault, last_trained, row, second_trial_in_work, start_driver
from orchestrator.work.shown import EpochShown

STOPPED_S = float(os.environ.get("STOPPED_S", "45"))


@fault(f"Train worker SIGSTOP, continued after {STOPPED_S:.0f} s")
def worker_stopped(place: Place) -> Row:
    scene = place.scene("worker-stopped", "search.trials=6")
    return _stopped(scene, lambda: [last_trained(scene).pid])


@fault(f"pool actor SIGSTOP, continued after {STOPPED_S:.0f} s", group="pool")
def pool_stopped(place: Place) -> Row:
    scene = place.scene("pool-stopped", "search.trials=6")
    return _stopped(scene, lambda: processes_called(b"ray::PoolActor", place.control))


def _stopped(scene: Scene, victims: Callable[[], list[int]]) -> Row:
    epochs = [0]

    def act() -> None:
        pids = victims()
        assert pids, "there is a process to stop"
        scene.strike()
        before = len(scene.lines())
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(STOPPED_S)
        epochs[0] = len(scene.lines()) - before
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        scene.mend()

    scene.when(act, EpochShown, trial=1, epoch=2)
    outcome = scene.run()
    again = scene.next_epoch(scene.mended)
    return row(
        scene,
        f"it stood still; {epochs[0]} epochs of cells were trained elsewhere meanwhile",
        again,
        outcome,
        told="has not been heard of|has not answered",
    )


@fault("driver SIGSTOP, continued after another one finished", group="driver")
def driver_stopped(place: Place) -> Row:
    """Its own workers go on; another driver waits its time out, takes over and finishes; then it wakes."""
    scene = place.scene("driver-stopped", "search.trials=6")
    first = start_driver(scene)
    scene.wait(lambda: second_trial_in_work(scene))
    scene.strike()
    os.kill(first.pid, signal.SIGSTOP)
    stopped = time.time()
    outcome = scene.run()
    recovered = round(time.time() - stopped, 1)
    before = {t.number: (t.state, t.value, t.fence) for t in scene.store.load_trials()}
    runs = {run.data.tags["mmap.run"]: run.info.status for run in scene.mlflow_runs()}
    os.kill(first.pid, signal.SIGCONT)
    said, _ = first.communicate(timeout=120)
    after = {t.number: (t.state, t.value, t.fence) for t in scene.store.load_trials()}
    late = {run.data.tags["mmap.run"]: run.info.status for run in scene.mlflow_runs()}
    scene.say(said)
    changed = sum(before[number] != after.get(number) for number in before)
    overwritten = sum(runs[name] != late.get(name) for name in runs)
    detected = (
        f"the second driver finished; the first woke and ended with exit code {first.returncode}; "
        f"{changed} trials and {overwritten} MLflow runs changed by it"
    )
    return row(
        scene,
        detected,
        recovered,
        outcome,
        told="took (it|the study) over|taken over",
        trials_overwritten=changed,
        mlflow_overwritten=overwritten,
    )


@fault("SIGHUP to the driver", group="driver")
def hangup(place: Place) -> Row:
    return _ended(place.scene("hangup"), lambda driver: driver.send_signal(signal.SIGHUP))


@fault("SIGINT twice", group="driver")
def interrupted_twice(place: Place) -> Row:
    def twice(driver: subprocess.Popen[str]) -> None:
        driver.send_signal(signal.SIGINT)
        time.sleep(0.3)
        driver.send_signal(signal.SIGINT)

    return _ended(place.scene("interrupted-twice"), twice)


@fault("SIGKILL in the first second", group="driver")
def killed_at_once(place: Place) -> Row:
    """As soon as the study's first record is there."""
    scene = place.scene("killed-at-once")
    return _ended(scene, lambda driver: driver.kill(), scene.store.exists)


@fault("SIGKILL during the final scoring", group="driver")
def killed_while_scoring(place: Place) -> Row:
    scene = place.scene("killed-while-scoring")
    (place.control / "scores_s").write_text("3")
    return _ended(scene, lambda driver: driver.kill(), lambda: "scoring" in scene.whats())


def _ended(
    scene: Scene,
    end: Callable[[subprocess.Popen[str]], None],
    moment: Callable[[], bool] | None = None,
) -> Row:
    """A driver of its own gets a signal; the same command then finishes the study in this process."""
    first = start_driver(scene)
    scene.wait(moment or (lambda: second_trial_in_work(scene)))
    scene.strike()
    end(first)
    said, _ = first.communicate(timeout=120)
    scene.say(said)
    orphans, had_begun = {line.pid for line in scene.lines()}, scene.store.opening().fence > 0
    outcome = scene.run()
    recovered = scene.next_epoch(scene.struck, lambda line: line.pid not in orphans)
    recorded = scene.store.load_invocations()
    left = (
        f"its invocation is left {recorded[0].outcome!r}"
        if len(recorded) > 1
        else "it recorded no invocation"
    )
    if not had_begun:
        left = "nothing had begun"
    return row(
        scene,
        f"exit code {first.returncode}; {left}",
        recovered,
        outcome,
        told=f"Killed immediately|{RESUMES}" if had_begun else None,
    )
