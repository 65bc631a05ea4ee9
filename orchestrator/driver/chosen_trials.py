"""Chosen trials of a study, as a study of their own on other seeds."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence

from mmap_model.configuration import Seeds
from orchestrator.ledger import TrialRecord
from orchestrator.study import StudyPlan
from orchestrator.study.errors import StudyError
from orchestrator.study.model import NAME_LENGTH
from orchestrator.study.scheduler import Scheduler


def complete_trials(trials: Iterable[TrialRecord], numbers: Iterable[int]) -> list[TrialRecord]:
    """Those of the given numbers, each once.

    Raises:
        StudyError: one is not complete.
    """
    records = {trial.number: trial for trial in trials}
    chosen = []
    for number in dict.fromkeys(numbers):
        record = records.get(number)
        if record is None or record.state != "complete":
            raise StudyError(
                f"trial {number} is {'unknown' if record is None else record.state}, not complete",
                where="--trial",
                fix="orchestrator results lists complete ones",
            )
        chosen.append(record)
    return chosen


def only_trials(
    plan: StudyPlan, chosen: Sequence[TrialRecord], seeds: tuple[Seeds, ...], name: str
) -> StudyPlan:
    """The plan of a study that holds only the chosen trials, in their order, and searches nothing.

    Args:
        plan: of the study that they come from.
        chosen: their records there.
        seeds: of the study.
        name: of the study.
    """
    search = {
        "trials": len(chosen),
        "preset": False,
        "enqueue": tuple(plan.space.values(record.params) for record in chosen),
        "scheduler": Scheduler(name="none"),
        "scheduler_version": None,
        "sampler": "random",
        "sampler_options": {},
        "warm_start": (),
    }
    study = plan.study.model_copy(
        update={
            "name": name,
            "seeds": seeds,
            "finalists": len(chosen),
            "search": plan.study.search.model_copy(update=search),
        }
    )
    first = tuple(dict(record.params) for record in chosen)
    return dataclasses.replace(plan, study=study, trials=len(chosen), first=first)


def fitting(name: str) -> str:
    """A name as long as a study's may be: the same for the same text, so that the study is resumed."""
    if len(name) <= NAME_LENGTH:
        return name
    end = f"-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return f"{name[: NAME_LENGTH - len(end)].rstrip('-.')}{end}"
