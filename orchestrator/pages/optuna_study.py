"""The records of a study as one of Optuna, in a file that optuna-dashboard and `optuna.load_study` read."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import json_to_distribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from orchestrator.ledger import TrialRecord
from orchestrator.ledger.trial_record import CONSTRAINTS
from orchestrator.statistics.objectives import Objective
from orchestrator.statistics.summary import seed_means, summarize

ACCURACY = (Objective("accuracy", True),)

STATES = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
    "running": TrialState.RUNNING,
}


@dataclass
class _Shown:
    """A trial as Optuna has it: what of it may still change while it runs."""

    id: int
    state: TrialState
    attempts: int
    epochs: set[int] = field(default_factory=set)


class OptunaStudy:
    """A study of Optuna that shows what records say, and goes on showing it as they change.

    Optuna numbers trials without gaps; in place of a record that cannot be read stands a failed trial. Its
    finished trials never change, so where one was taken up again the study is written anew.

    Args:
        journal: file to write; it must not exist.
        name: of the study.
        objectives: of its search.
    """

    def __init__(self, journal: Path, name: str, objectives: Sequence[Objective] = ACCURACY) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.storage = JournalStorage(JournalFileBackend(str(journal)))
        self.name, self._objectives = name, objectives
        self._begin()

    def update(self, trials: Iterable[TrialRecord]) -> int:
        """Show these trials, sorted by number; returns how many are new or have changed."""
        records = {trial.number: trial for trial in trials if trial.number >= 0}
        if any(self._is_taken_up_again(records[number]) for number in self._shown if number in records):
            self.storage.delete_study(self.id)
            self._begin()
        changed = 0
        for number in range(max(records, default=-1) + 1):
            record = records.get(number)
            if number not in self._shown:
                self._create(number, record)
                changed += 1
            elif record is not None:
                changed += self._follow(self._shown[number], record)
        return changed

    def _begin(self) -> None:
        directions = ["maximize" if objective.maximize else "minimize" for objective in self._objectives]
        study = optuna.create_study(storage=self.storage, study_name=self.name, directions=directions)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names([objective.name for objective in self._objectives])
        self.id = self.storage.get_study_id_from_name(study.study_name)
        self._shown: dict[int, _Shown] = {}

    def _is_taken_up_again(self, record: TrialRecord) -> bool:
        shown = self._shown[record.number]
        return shown.state.is_finished() and (
            record.state == "running" or record.attempts != shown.attempts or shown.state != _state(record)
        )

    def _create(self, number: int, record: TrialRecord | None) -> None:
        trial = _unreadable() if record is None else _frozen(record)
        trial_id = self.storage.create_new_trial(self.id, template_trial=trial)
        attempts = 0 if record is None else record.attempts
        self._shown[number] = _Shown(trial_id, trial.state, attempts, set(trial.intermediate_values))

    def _follow(self, shown: _Shown, record: TrialRecord) -> bool:
        """Show what has become of a trial that ran; whether anything has."""
        if shown.state.is_finished():
            return False
        now = _frozen(record)
        fresh = now.intermediate_values.keys() - shown.epochs
        for epoch in sorted(fresh):
            self.storage.set_trial_intermediate_value(shown.id, epoch, now.intermediate_values[epoch])
        if fresh or now.state.is_finished():
            for name, value in now.user_attrs.items():
                self.storage.set_trial_user_attr(shown.id, name, value)
        shown.epochs |= fresh
        shown.attempts = record.attempts
        if now.state.is_finished():
            self.storage.set_trial_state_values(shown.id, now.state, now.values)
            shown.state = now.state
        return bool(fresh) or now.state.is_finished()


def _frozen(record: TrialRecord) -> FrozenTrial:
    """A trial as it stands. Epochs are steps; one whose mean is not a number is left out."""
    distributions = {name: json_to_distribution(text) for name, text in record.distributions.items()}
    state = _state(record)
    means = {epoch["epoch"]: float(epoch["mean"]) for epoch in record.epochs if _is_number(epoch["mean"])}
    values = _values(record) if state is TrialState.COMPLETE else None
    if state is TrialState.PRUNED and means:
        values = [means[max(means)]]  # as Optuna has it: without one its pages draw no curve
    trial = create_trial(
        state=state,
        values=values,
        params={name: record.params[name] for name in distributions},
        distributions=distributions,
        user_attrs=_attributes(record),
        system_attrs=_constraints(record),
        intermediate_values=means,
    )
    trial.datetime_start = _time(record.started_at or record.created_at)
    if state.is_finished():
        trial.datetime_complete = _time(record.ended_at) or trial.datetime_start
    return trial


def _unreadable() -> FrozenTrial:
    return create_trial(state=TrialState.FAIL, user_attrs={"state": "its record cannot be read"})


def _state(record: TrialRecord) -> TrialState:
    """A complete trial without a value, for lack of validation images, has none that Optuna could take."""
    state = STATES[record.state]
    return TrialState.FAIL if state is TrialState.COMPLETE and _values(record) is None else state


def _values(record: TrialRecord) -> list[float] | None:
    values = record.value if isinstance(record.value, list) else [record.value]
    found = [float(value) for value in values if value is not None and _is_number(value)]
    return found if len(found) == len(values) else None


def _constraints(record: TrialRecord) -> dict[str, Any]:
    """By how much it violates each constraint of the study, under the name by which Optuna knows them."""
    violated = record.attributes.get(CONSTRAINTS, {})
    return {"constraints": list(violated.values())} if violated else {}


def _attributes(record: TrialRecord) -> dict[str, Any]:
    """What is known beside parameters and values; of the accuracy the latest epoch."""
    found: dict[str, Any] = {}
    values = record.epochs[-1].get("values") or [] if record.epochs else []
    if len(values) == len(record.cells) > 0 and all(_is_number(value) for value in values):
        pairs = [(cell["split"], cell["seed"]) for cell in record.cells]
        summary = summarize(list(seed_means(dict(zip(pairs, values, strict=True))).values()))
        sem = None if summary.std is None else summary.std / math.sqrt(summary.n)
        found = {"mean": summary.mean, "sem": sem, "n": summary.n}
    found |= {
        "parameters": record.parameters,
        "device_seconds": record.device_seconds,
        "state": record.state,
        "error": record.error,
    }
    return {name: value for name, value in found.items() if value is not None}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _time(stamp: str | None) -> datetime | None:
    """As Optuna keeps it: of this machine's zone, without saying so."""
    return None if stamp is None else datetime.fromisoformat(stamp).astimezone().replace(tzinfo=None)
