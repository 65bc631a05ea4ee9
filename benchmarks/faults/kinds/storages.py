"""Faults of the file system that holds the records."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from scene import Scene

from kinds.base import OUTAGE_S, Place, Row, fault, row, runs_missing
from orchestrator.work.events import Waiting
from orchestrator.work.shown import EpochShown

MOUNT_BYTES = 8 * 2**20


@fault("storage full", group="stores")
def storage_full(place: Place) -> Row:
    scene = place.scene("storage-full", "search.trials=6", epoch_s=1.0)
    filler = scene.folder / "runs" / "filler"

    def act() -> None:
        fill(scene, filler)
        scene.wait(lambda: scene.told(Waiting))
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


def fill(scene: Scene, filler: Path) -> None:
    """Write until the disk takes no more."""
    with filler.open("wb", buffering=0) as file:
        scene.strike()
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


def storage_row(scene: Scene, act: Callable[[], None]) -> Row:
    """The records lie in a file system of their own, in memory."""
    runs = scene.folder / "runs"
    runs.mkdir()
    mount("-t", "tmpfs", "-o", f"size={MOUNT_BYTES}", "tmpfs", str(runs))
    try:
        mount("--make-private", str(runs))
        scene.when(act, EpochShown, trial=1, epoch=2)
        outcome = scene.run()
        waits = scene.told(Waiting)
        detected = waits[0].text.replace(str(scene.folder), "…") if waits else "not at all"
        strays = [path.name for path in runs.iterdir() if path.name.startswith("filler")]
        assert not strays, strays
        again = scene.next_epoch(scene.mended)
        return row(
            scene,
            detected,
            again,
            outcome,
            told="does not|unreachable|trying again",
            mlflow_runs_missing=runs_missing(scene),
        )
    finally:
        subprocess.run(["umount", "-l", str(runs)], check=False)


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


@fault("storage read-only for 15 s, then writable", group="stores")
def storage_read_only(place: Place) -> Row:
    scene = place.scene("storage-read-only", "search.trials=6", epoch_s=1.0)
    runs = scene.folder / "runs"

    def act() -> None:
        scene.strike()
        # A second mount in its place, since files are open for writing on the first.
        mount("--bind", str(runs), str(runs))
        mount("-o", "remount,bind,ro", str(runs))
        time.sleep(15)
        subprocess.run(["umount", "-l", str(runs)], check=True)
        scene.mend()

    return storage_row(scene, act)


@fault("a small disk that fills and is enlarged", group="stores")
def disk_enlarged(place: Place) -> Row:
    scene = place.scene("disk-enlarged", "search.trials=6", epoch_s=1.0)
    runs = scene.folder / "runs"

    def act() -> None:
        fill(scene, runs / "filler")
        scene.wait(lambda: scene.told(Waiting))
        mount("-o", f"remount,size={2 * MOUNT_BYTES}", str(runs))
        scene.mend()
        scene.wait(lambda: scene.next_epoch(scene.mended))
        (runs / "filler").unlink()

    return storage_row(scene, act)


@fault("storage folder deleted", group="deleted")
def storage_deleted(place: Place) -> Row:
    """Nothing can bring the records back: what counts is that the user hears it and nothing is mixed."""
    scene = place.scene("storage-deleted", "search.trials=6")

    def act() -> None:
        scene.strike()
        while (
            scene.folder / "runs"
        ).exists():  # what is written meanwhile goes too, as with rm -rf said again
            shutil.rmtree(scene.folder / "runs", ignore_errors=True)

    scene.when(act, EpochShown, trial=1, epoch=2)
    first = scene.run()
    detected = f"the study ended: {first.error}" if first.state == "failed" else f"not: {first.state}"
    scene.mend()
    outcome = scene.run()
    return row(
        scene,
        detected.replace(str(scene.folder), "…"),
        scene.next_epoch(scene.mended),
        outcome,
        told="gone|deleted|another folder|unmounted",
    )
