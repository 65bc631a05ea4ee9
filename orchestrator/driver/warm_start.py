"""What a study takes from others when it begins: points to try first, and trials to teach the sampler.

It is recorded with the study when it first runs, and read back ever after: what becomes of the other studies
changes nothing, and a search that was stopped goes on as it would have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mmap_model.errors import InputError, nearest
from orchestrator.driver.taken import Taken, WarmStart
from orchestrator.ledger import Ledger, StudyStore, TrialRecord
from orchestrator.rows.scoring import finalists
from orchestrator.statistics.objectives import Aim, measure
from orchestrator.study import StudyPlan, identity, study_from_plain
from orchestrator.study.errors import StudyError
from orchestrator.study.sampler import is_custom
from search_spaces import SpaceError

LEARNS = frozenset({"tpe", "gp", "nsga2", "nsga3"})
"""Samplers that use trials which they have not proposed."""

STUDIES = "/studies/"
COMPARABLE = ("dataset", "backbone", "splits", "seeds", "protocol", "precision", "recipe.epochs")
"""Keys of a study on which the level of its accuracies depends most."""


def recorded_or_found(plan: StudyPlan, store: StudyStore) -> tuple[WarmStart, bool]:
    """What the study took when it began, and whether that is on record; else what it would take now.

    Raises:
        InputError: see `find_warm_start`.
    """
    if not plan.study.search.warm_start:
        return WarmStart(), True
    recorded = store.load_warm_start()
    return (find_warm_start(plan), False) if recorded is None else (WarmStart.from_dict(recorded), True)


def find_warm_start(plan: StudyPlan) -> WarmStart:
    """Look through the studies of ``search.warm_start``. Reads only.

    Raises:
        StudyError: there is no such study, it is this one, it tunes another method, or it has no complete
            trial.
    """
    sources: list[Taken] = []
    points = [*plan.first]
    for index, text in enumerate(plan.study.search.warm_start):
        taken = _take(plan, text, f"search.warm_start.{index}", points)
        points += [point["params"] for point in taken.enqueued]
        sources.append(taken)
    return WarmStart(sources=tuple(sources))


def seeds_learned_from(plan: StudyPlan) -> set[int]:
    """Seeds of the studies of ``search.warm_start``, and of those that they began from themselves.

    Returns:
        Numbers of draws and of training.

    Raises:
        StudyError: one of the studies is gone.
    """
    found: set[int] = set()
    for index, text in enumerate(plan.study.search.warm_start):
        store = _open(plan, text, f"search.warm_start.{index}")
        study = study_from_plain(store.load_study() or {}, f"study {text}")
        found |= {number for seed in study.seeds for number in (seed.draw, seed.train)}
        earlier = study.model_copy(update={"name": store.name, "storage": str(store.storage.root)})
        found |= seeds_learned_from(replace(plan, study=earlier))
    return found


def _take(plan: StudyPlan, text: str, where: str, points: Sequence[Mapping[str, Any]]) -> Taken:
    store = _open(plan, text, where)
    search = plan.study.search
    trials = [trial for trial in store.load_trials() if trial.state == "complete"]
    measured = [trial for trial in trials if trial.accuracy is not None]
    if not measured:
        raise StudyError(
            f"study {text!r} has no complete trial to start from",
            where=where,
            fix="run it first, or remove it",
        )
    methods = {trial.point.get("method") for trial in measured}
    if methods != {plan.study.method}:
        other = ", ".join(sorted(str(name) for name in methods))
        raise StudyError(
            f"study {text!r} tunes {other}, and this one {plan.study.method}",
            where=where,
            fix="name studies of the same method",
        )
    notes = [*_differences(plan, store, text)]
    enqueued, refused = _best(plan, measured, points, where)
    notes += refused
    fed, unlike = _agreeing(plan, measured, Ledger(store.storage))
    notes += unlike
    if not (search.sampler in LEARNS or is_custom(search.sampler)):
        fed, notes = (), [*notes, f"sampler {search.sampler} does not learn from trials of other studies"]
    return Taken(study=text, enqueued=enqueued, fed=fed, notes=tuple(notes))


def _open(plan: StudyPlan, text: str, where: str) -> StudyStore:
    root, found, name = text.rstrip("/").rpartition(STUDIES)
    if "/" in text and not found:
        raise StudyError(
            f"{text!r} is neither a name nor the folder of a study",
            where=where,
            fix="give a name in this storage, or a path such as /shared/runs/studies/demo",
        )
    place = root if found else plan.study.storage
    store = StudyStore(place, name if found else text)
    if not store.exists():
        known = store.storage.names("studies")
        raise StudyError(
            f"there is no study {store.name!r} in {store.storage.locate('')}",
            where=where,
            fix=nearest(store.name, known)
            if known
            else "it holds no study; check search.warm_start and storage",
        )
    here = StudyStore(plan.study.storage, plan.study.name)
    if (store.storage.locate(""), store.name) == (here.storage.locate(""), here.name):
        raise StudyError(
            "a study cannot start from itself", where=where, fix="remove it, or set another name"
        )
    return store


def _differences(plan: StudyPlan, store: StudyStore, text: str) -> Iterator[str]:
    """Say in what the other study was trained otherwise."""
    theirs = identity(study_from_plain(store.load_study() or {}, f"study {text}"))
    own = identity(plan.study)
    names = {**own, **theirs}
    unlike = [
        key
        for key in COMPARABLE
        if any(own.get(n) != theirs.get(n) for n in names if n == key or n.startswith(f"{key}."))
    ]
    if unlike:
        yield f"trained with other {', '.join(unlike)}: its values are taken as they are"


def _best(
    plan: StudyPlan, trials: Sequence[TrialRecord], points: Sequence[Mapping[str, Any]], where: str
) -> tuple[tuple[dict[str, Any], ...], list[str]]:
    """The best points of another study that are valid here and not tried first anyway; why others are not."""
    keys = [key for space in plan.study.spaces() for key in space.writes()]
    enqueued: list[dict[str, Any]] = []
    notes = []
    for trial in finalists(trials, plan.study.search.warm_start_best):
        values = {}
        for key in keys:
            section, _, name = key.partition(".")
            values[name] = (trial.point.get(section) or {}).get(name)
        try:
            params = plan.space.params(values, where)
        except (SpaceError, InputError) as error:
            notes.append(f"trial {trial.number} is not tried: {error.problem}")
            continue
        if params not in points and all(params != point["params"] for point in enqueued):
            enqueued.append({"trial": trial.number, "params": params})
    return tuple(enqueued), notes


def _agreeing(
    plan: StudyPlan, trials: Sequence[TrialRecord], ledger: Ledger
) -> tuple[tuple[dict[str, Any], ...], list[str]]:
    """Trials whose parameters and their values are those of this space; what differs in the others."""
    aim = plan.study.search.aim
    records = {} if aim.is_plain else ledger.get_many(key for trial in trials for key in trial.keys)
    fed: list[dict[str, Any]] = []
    unlike: dict[str, int] = {}
    unmeasured = 0
    for trial in trials:
        differs = differing(plan, trial)
        if differs is not None:
            unlike[differs] = unlike.get(differs, 0) + 1
            continue
        values = _values(trial, aim, records)
        if values is None:
            unmeasured += 1
            continue
        fed.append(
            {"trial": trial.number, "params": trial.params, "distributions": trial.distributions, **values}
        )
    notes = [f"{count} of {len(trials)} trials do not fit: {name} differs" for name, count in unlike.items()]
    if unmeasured:
        notes.append(f"{unmeasured} of {len(trials)} trials lack an objective or constraint of this study")
    return tuple(fed), notes


def _values(trial: TrialRecord, aim: Aim, records: Mapping[str, Any]) -> dict[str, Any] | None:
    if aim.is_plain:
        return {"values": [trial.accuracy], "violations": {}}
    measured = measure(aim.names, trial.cells, records, trial.parameters)
    found = {name: value for name, value in measured.items() if value is not None}
    if len(found) < len(measured):
        return None
    return {
        "values": [found[each.name] for each in aim.objectives],
        "violations": {each.label: each.violation(found[each.name]) for each in aim.constraints},
    }


def differing(plan: StudyPlan, trial: TrialRecord) -> str | None:
    """The first parameter by which a trial of another study does not fit this space; None if it fits."""
    checked = _Same(trial)
    try:
        plan.space.suggest(checked)
    except _Differs as found:
        return str(found)
    left = [name for name in trial.params if name not in checked.asked]
    return left[0] if left else None


class _Differs(Exception):
    """The name of a parameter."""


class _Same:
    """Gives back a trial's parameters, as long as their distributions are those asked for."""

    def __init__(self, trial: TrialRecord) -> None:
        self._trial = trial
        self.asked: set[str] = set()

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        from optuna.distributions import CategoricalDistribution

        return self._give(name, CategoricalDistribution(tuple(choices)))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        from optuna.distributions import IntDistribution

        return int(self._give(name, IntDistribution(low, high, log=log, step=step)))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        from optuna.distributions import FloatDistribution

        return float(self._give(name, FloatDistribution(low, high, log=log, step=step)))

    def _give(self, name: str, distribution: Any) -> Any:
        from optuna.distributions import json_to_distribution

        recorded = self._trial.distributions.get(name)
        if recorded is None or name not in self._trial.params:
            raise _Differs(name)
        if json_to_distribution(recorded) != distribution:
            raise _Differs(name)
        self.asked.add(name)
        return self._trial.params[name]
