"""Faults of the lease on a study: clocks that differ, two studies beside each other."""

from __future__ import annotations

import time

from scene import kill

from kinds.base import RESUMES, Place, Row, fault, row, runs_missing, second_trial_in_work, start_driver
from orchestrator.work.shown import EpochShown

SHIFT_S = 7200


@fault("a contender whose clock is two hours ahead")
def clock_ahead(place: Place) -> Row:
    return _contender(place, "clock-ahead", SHIFT_S)


@fault("a contender whose clock is two hours behind")
def clock_behind(place: Place) -> Row:
    return _contender(place, "clock-behind", -SHIFT_S)


def _contender(place: Place, name: str, shift: int) -> Row:
    """Another host, as far as it can tell: it knows neither the process nor the boot."""
    scene, said = place.scene(name, "search.trials=8"), list[str | int]()

    def act() -> None:
        scene.strike()
        second = start_driver(scene, SHIFT_CLOCK_S=str(shift), OTHER_HOST="1")
        said.extend([second.communicate(timeout=170)[0], second.returncode])

    scene.when(act, EpochShown, trial=1, epoch=1)
    outcome = scene.run()
    scene.say(str(said[0]))
    return row(
        scene,
        f"the contender was refused with exit code {said[1]}"
        if said[1] == 2
        else f"it took the study: {said[1]}",
        0.0,
        outcome,
        told="is being run by|already running",
    )


@fault("a dead driver whose clock was two hours ahead", group="driver")
def dead_clock_ahead(place: Place) -> Row:
    """On another host, so that only its beats can tell that it is dead."""
    scene = place.scene("dead-clock-ahead")
    first = start_driver(scene, SHIFT_CLOCK_S=str(SHIFT_S), OTHER_HOST="1")
    scene.wait(lambda: second_trial_in_work(scene))
    scene.strike()
    kill(first.pid)
    first.wait()
    orphans = {line.pid for line in scene.lines()}
    began = time.time()
    outcome = scene.run()
    waited = scene.next_epoch(began, lambda line: line.pid not in orphans)
    return row(
        scene,
        f"taken over; the next driver trained after {waited} s, a new start of Ray included",
        waited,
        outcome,
        told=f"^Waiting|{RESUMES}",
    )


@fault("two studies on one storage and one MLflow database", group="driver")
def two_studies(place: Place) -> Row:
    """Other seeds of the search, so that they share the first trial's cells and no others."""
    scene = place.scene("two-studies")
    other = place.scene("two-studies-other", "search.seed=2", fresh=False)
    other.overrides = [
        *(o for o in other.overrides if not o.startswith(("storage=", "tracking."))),
        *(o for o in scene.overrides if o.startswith(("storage=", "tracking."))),
    ]
    second = start_driver(other)
    outcome = scene.run()
    said, _ = second.communicate(timeout=300)
    assert second.returncode == 0, said
    return row(
        scene,
        "both finished; cells that both wanted were trained by whoever came first, or by both",
        None,
        outcome,
        told=None,
        mlflow_runs_missing=runs_missing(scene),
    )
