"""What stops weak trials early: the key ``search.scheduler``. Ray Tune's schedulers, or one's own."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from mmap_model import references
from mmap_model.errors import nearest
from orchestrator.study.errors import StudyError

WHERE = "search.scheduler"
EXAMPLE = "file.py:MyScheduler"

SCHEDULERS: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "asha": ("grace_period",),
    "median": ("grace_period", "min_samples_required"),
}
"""Options by name, all whole numbers of 1 or more."""

_PAUSES = "it pauses trials, and the work of a trial does not wait: its slot goes on to its end"
_CHANGES = "it changes a trial's configuration while it trains, and a cell has one configuration"
REFUSED: Mapping[str, str] = {
    "hyperband": _PAUSES,
    "bohb": _PAUSES,
    "pbt": _CHANGES,
    "pbt_replay": _CHANGES,
    "pb2": _CHANGES,
    "resource_changing": "it changes what a trial may use, and that is its slot's",
}
"""Schedulers of Ray Tune that thin trials cannot serve, with the reason."""

REFUSED_CLASSES: Mapping[str, str] = {
    "HyperBandScheduler": "hyperband",
    "PopulationBasedTraining": "pbt",
    "PopulationBasedTrainingReplay": "pbt_replay",
    "ResourceChangingScheduler": "resource_changing",
}
"""The same by the class that stands behind a name, or below it."""


class Scheduler(BaseModel):
    """Which trials are stopped early: a ``name`` (or ``my_module:MyScheduler``, ``file.py:MyScheduler``) and
    its options."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, use_attribute_docstrings=True)

    name: str
    """``none``, ``asha``, ``median``, or the Python path of a scheduler of Ray Tune or your own."""

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _served(self) -> Scheduler:
        if references.parse(self.name) is not None:
            own_scheduler(self, epochs=1_000_000)
            return self
        if self.name in REFUSED:
            raise _refused(self.name, self.name)
        if self.name not in SCHEDULERS:
            fix = f"{nearest(self.name, [*SCHEDULERS])}; your own is given as my_module:Class or {EXAMPLE}"
            raise StudyError(f"unknown scheduler {self.name!r}", where=WHERE, fix=fix)
        for key, value in self.options.items():
            if key not in SCHEDULERS[self.name]:
                raise _unknown(self.name, key, SCHEDULERS[self.name])
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise StudyError(f"{value!r} is not allowed", where=f"{WHERE}.{key}", fix="use 1, 2, …")
        return self

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


EARLIEST = 0.6
"""Share of the epochs before which nothing is stopped: with a short schedule that begins with a warm-up
epoch, earlier ranks are noise."""


def grace(epochs: int) -> int:
    """First epoch after which a trial may be stopped."""
    return max(1, math.ceil(EARLIEST * epochs))


def judged_epochs(scheduler: Scheduler, *, epochs: int, reduction_factor: int) -> tuple[int, ...] | None:
    """Epochs after which trials may be stopped, the last one apart; None: any may be.

    Args:
        scheduler: of the study.
        epochs: of every trial.
        reduction_factor: of ``asha``.
    """
    first = scheduler.options.get("grace_period", grace(epochs))
    match scheduler.name:
        case "none":
            return ()
        case "median":
            return tuple(range(first, epochs))
        case "asha":
            rungs = (first * reduction_factor**rung for rung in itertools.count())
            return tuple(itertools.takewhile(lambda epoch: epoch < epochs, rungs))
        case _:
            return None


def own_scheduler(scheduler: Scheduler, *, epochs: int) -> Any:
    """Make a scheduler that is given by its Python path. What it is told of a trial is filled in.

    Args:
        scheduler: ``name`` is the path, its options are arguments.
        epochs: of every trial.

    Raises:
        StudyError: no such class, none of Ray Tune's kind, one that cannot be served, or wrong arguments.
    """
    reference = references.parse(scheduler.name)
    assert reference is not None, "it is given by its path"
    found = references.resolve(reference, where=WHERE, example=EXAMPLE, error=StudyError)
    bases = [kind.__name__ for kind in found.__mro__] if isinstance(found, type) else []
    if "TrialScheduler" not in bases:
        raise StudyError(
            f"{scheduler.name} is not a scheduler",
            where=WHERE,
            fix="make it a class that derives from ray.tune.schedulers.FIFOScheduler",
        )
    for base in bases:
        if base in REFUSED_CLASSES:
            raise _refused(scheduler.name, REFUSED_CLASSES[base])
    takes = inspect.signature(found).parameters
    filled = {"time_attr": "epoch", "metric": "mean", "mode": "max", "max_t": epochs}
    for key in scheduler.options:
        if key not in takes or key in filled:
            raise _unknown(scheduler.name, key, [name for name in takes if name not in filled])
    arguments = {name: value for name, value in filled.items() if name in takes} | scheduler.options
    try:
        return found(**arguments)
    except Exception as error:
        problem = f"{scheduler.name} cannot be made: {type(error).__name__}: {error}"
        raise StudyError(problem, where=WHERE, fix="correct its options") from error


def _refused(name: str, kind: str) -> StudyError:
    fix = "use asha, which compares trials as they come, or median"
    return StudyError(f"{name} cannot be used: {REFUSED[kind]}", where=WHERE, fix=fix)


def _unknown(name: str, key: str, known: Any) -> StudyError:
    fix = nearest(key, known) if known else "remove it"
    return StudyError(f"{name} has no option {key!r}", where=f"{WHERE}.{key}", fix=fix)
