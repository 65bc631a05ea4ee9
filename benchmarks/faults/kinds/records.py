"""Faults of single records."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from scene import Line, Scene, kill

from kinds.base import Place, Row, fault, row
from mmap_model.errors import InputError
from orchestrator.driver import Outcome
from orchestrator.ledger.documents import decode_state
from orchestrator.work.events import CellsKnown
from orchestrator.work.shown import EpochShown, TrialShown


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

    scene.when(act, TrialShown, number=0, state="complete")
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
        told="copy|damaged|quarantine",
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

    scene.when(act, EpochShown, trial=1, epoch=3)
    outcome = scene.run()
    again = scene.next_epoch(scene.struck, lambda line: line.key == victim[0].key)
    aside = [path.name for path in (scene.folder / "runs" / "quarantine").iterdir()]
    resumed = next(
        cell.epoch for event in scene.told(CellsKnown) for cell in event.cells if cell.key == victim[0].key
    )
    detected = f"moved to quarantine/{aside[0][:17]}…, resumed after epoch {resumed} of {victim[0].epoch}"
    return row(scene, detected, again, outcome, told="inflight.*quarantine")


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


Damage = Callable[[Path, Path], None]
"""Harms a record; the second path is another record of its kind."""


def torn(record: Path, other: Path) -> None:
    truncate(record)


def swapped(record: Path, other: Path) -> None:
    record.write_bytes(other.read_bytes())


def flipped(record: Path, other: Path) -> None:
    data = bytearray(record.read_bytes())
    data[len(data) // 2] ^= 1
    record.write_bytes(bytes(data))


def study_records(scene: Scene) -> tuple[Path, Path]:
    study = scene.folder / "runs" / "studies" / scene.folder.name
    return study / "study.json", next(iter(sorted((study / "invocations").iterdir())))


def trial_records(scene: Scene) -> tuple[Path, Path]:
    trials = sorted((scene.folder / "runs" / "studies" / scene.folder.name / "trials").glob("*.json"))
    return next(p for p in trials if p.name.startswith("1.")), next(
        p for p in trials if p.name.startswith("0.")
    )


def cell_records(scene: Scene) -> tuple[Path, Path]:
    first, second, *_ = (key for trial in scene.store.load_trials() for key in trial.keys)
    cells = scene.folder / "runs" / "cells"
    return cells / first / "record.json", cells / second / "record.json"


def test_records(scene: Scene) -> tuple[Path, Path]:
    looks = sorted((scene.folder / "runs" / "studies" / scene.folder.name / "looks").iterdir())
    assert len(looks) > 1, looks
    return looks[0], looks[1]


RECORDS = {
    "study.json": study_records,
    "a trial record": trial_records,
    "a cell record": cell_records,
    "a record of a test evaluation": test_records,
}


def _between_runs(place: Place, damage: Damage, name: str) -> Row:
    """Harm one record of a finished study; the same command, with two more trials, then goes on."""
    scene = place.scene(f"{damage.__name__}-{name.replace(' ', '-').replace('.', '-')}")
    scene.run()
    record, other = RECORDS[name](scene)
    scene.strike()
    damage(record, other)
    before = len([line for line in scene.lines() if line.what == "finished"])
    keys = {key for trial in scene.store.load_trials() for key in trial.keys}
    scene.overrides.append("search.trials=6")
    scene.mend()
    try:
        outcome = scene.run()
    except InputError as error:
        scene.say(f"Error: {error}")
        outcome = Outcome(state="failed", error=str(error))
    again = [line for line in scene.lines() if line.what == "finished"][before:]
    twice = sum(line.key in keys for line in again)
    said = "refused" if outcome.state == "failed" else f"{twice} finished cells trained again"
    return row(
        scene,
        said,
        scene.next_epoch(scene.mended),
        outcome,
        told=rf"{re.escape(record.name)}|{re.escape(record.parent.name)}|copy|damaged",
        trials=len(scene.store.load_trials()),
    )


def _register() -> None:
    for name in RECORDS:
        for damage in (torn, swapped, flipped):

            def injure(place: Place, damage: Damage = damage, name: str = name) -> Row:
                return _between_runs(place, damage, name)

            injure.__name__ = f"{damage.__name__}_{re.sub(r'[^a-z]+', '_', name)}"
            fault(f"{name} {damage.__name__}", group="stores")(injure)


_register()
