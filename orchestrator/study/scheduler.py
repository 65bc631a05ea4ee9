"""What stops weak trials early: the key ``search.scheduler``. Ray Tune's schedulers, or custom ones."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from mmap_model import references
from mmap_model.errors import nearest
from orchestrator.study.errors import StudyError
from orchestrator.study.rungs import epoch_rungs, first_after_warmup, grace

WHERE = "search.scheduler"
EXAMPLE = "file.py:MyScheduler"

SCHEDULERS: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "asha": ("grace_period", "chance"),
    "median": ("grace_period", "min_samples_required"),
    "seeds": ("first", "grace_period", "chance"),
}
"""Options by name: whole numbers of 1 or more, and shares."""

SHARES = ("chance",)
"""Options that are above 0 and at most a half."""

CHANCE = 0.2
"""A trial is stopped if the chance that it should not be, by the pooled noise of the seeds, is smaller."""

VERSION = 2
"""Of the rule by which ``asha`` and ``median`` stop: a study goes on by that which it was begun with. 1:
Tune's own, from 60 % of the epochs on, whatever the noise; studies recorded without a version have it."""

VERSIONED = ("asha", "median")
STAGED = ("asha", "seeds")
"""Schedulers that the driver decides itself, from version 2 on."""

_PAUSES = "it pauses trials, and the work of a trial does not wait: its slot goes on to its end"
_CHANGES = "it changes a trial's configuration while it trains, and a cell has one configuration"
REFUSED: Mapping[str, str] = {
    "hyperband": _PAUSES,
    "bohb": _PAUSES,
    "hb_bohb": _PAUSES,
    "pbt": _CHANGES,
    "pbt_replay": _CHANGES,
    "pb2": _CHANGES,
    "resource_changing": "it changes what a trial may use, and that is its slot's",
}
"""Schedulers of Ray Tune that thin trials cannot serve, with the reason."""

CALLED: Mapping[str, str] = {
    "fifo": "none",
    "async_hyperband": "asha",
    "asynchyperband": "asha",
    "median_stopping_rule": "median",
    "medianstopping": "median",
}
"""Further names that Ray Tune has for schedulers, and theirs here."""

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
    """``none``, ``asha``, ``median``, ``seeds``, or the Python path of a class, Ray Tune's or custom."""

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _served(self) -> Scheduler:
        if references.parse(self.name) is not None:
            custom_scheduler(self, epochs=1_000_000)
            return self
        if self.name in REFUSED:
            raise _refused(self.name, self.name)
        if self.name in CALLED:
            fix = f"use {CALLED[self.name]}"
            raise StudyError(f"{self.name} is called {CALLED[self.name]} here", where=WHERE, fix=fix)
        if self.name not in SCHEDULERS:
            fix = (
                f"{nearest(self.name, [*SCHEDULERS])}; a custom one is given as my_module:Class or {EXAMPLE}"
            )
            raise StudyError(f"unknown scheduler {self.name!r}", where=WHERE, fix=fix)
        for key, value in self.options.items():
            if key not in SCHEDULERS[self.name]:
                raise _unknown(self.name, key, SCHEDULERS[self.name])
            _check_option(key, value)
        return self

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


def judged_epochs(
    scheduler: Scheduler, *, epochs: int, reduction_factor: int, warmup: int, version: int = VERSION
) -> tuple[int, ...] | None:
    """Epochs after which trials may be stopped, the last one apart; None: any may be.

    Args:
        scheduler: of the study.
        epochs: of every trial.
        reduction_factor: of ``asha`` and ``seeds``.
        warmup: epochs of warm-up.
        version: of the rule that the study was begun with.
    """
    given = scheduler.options.get("grace_period")
    match scheduler.name:
        case "none":
            return ()
        case "median":
            return tuple(range(first_stop(scheduler, epochs=epochs, warmup=warmup, version=version), epochs))
        case "asha" if version == 1:
            judged, rung = [], given or grace(epochs)
            while rung < epochs:
                judged.append(rung)
                rung *= reduction_factor
            return tuple(judged)
        case "asha":
            first = given or first_after_warmup(epochs, warmup)
            rungs = epoch_rungs(epochs, reduction_factor, warmup=warmup, earliest=given)[:-1]
            return rungs or ((first,) if first < epochs else ())  # one at least, or it would stop nothing
        case "seeds":
            return epoch_rungs(epochs, reduction_factor, warmup=warmup, earliest=given)[:-1]
        case _:
            return None


def first_stop(scheduler: Scheduler, *, epochs: int, warmup: int, version: int) -> int:
    """First epoch after which ``median``, or ``asha`` by version 1, may stop a trial."""
    default = grace(epochs) if version == 1 else first_after_warmup(epochs, warmup)
    return int(scheduler.options.get("grace_period", default))


def custom_scheduler(scheduler: Scheduler, *, epochs: int) -> Any:
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


def _check_option(key: str, value: Any) -> None:
    if key in SHARES:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 0.5:
            fix = f"use a share up to 0.5, such as {CHANCE}"
            raise StudyError(f"{value!r} is not allowed", where=f"{WHERE}.{key}", fix=fix)
    elif not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise StudyError(f"{value!r} is not allowed", where=f"{WHERE}.{key}", fix="use 1, 2, …")


def _refused(name: str, kind: str) -> StudyError:
    fix = "use asha or seeds, which compare trials as they come, or median"
    return StudyError(f"{name} cannot be used: {REFUSED[kind]}", where=WHERE, fix=fix)


def _unknown(name: str, key: str, known: Any) -> StudyError:
    fix = nearest(key, known) if known else "remove it"
    return StudyError(f"{name} has no option {key!r}", where=f"{WHERE}.{key}", fix=fix)
