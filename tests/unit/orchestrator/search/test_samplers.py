"""A search goes on after a kill as if nothing had happened, whichever sampler proposes."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest

from mmap_model.cells import Point
from mmap_model.configuration import Recipe
from mmap_model.errors import InputError
from mmap_model.methods.mmap import MmapSettings
from orchestrator.driver.recorded_search import outcome_of, proposal_of, record_of
from orchestrator.ledger import TrialRecord
from orchestrator.ledger.trial_record import CONSTRAINTS, SAMPLER
from orchestrator.search.memory import Memory, after_end
from orchestrator.search.proposals import Known, Proposal, Proposals
from orchestrator.search.samplers import Samplers, derived_seed
from orchestrator.study.sampler import SAMPLERS

TRIALS = 24
CUSTOM = f"{Path(__file__).parent / 'custom_sampler.py'}:Counting"
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "tpe": {"n_startup_trials": 4},
    "gp": {"n_startup_trials": 5},
    "nsga2": {"population_size": 5},
    "nsga3": {"population_size": 5},
    "cmaes": {"popsize": 4},
    CUSTOM: {"stride": 2},
}
"""Small enough that each sampler does more than draw at random."""


def suggest(trial: Any) -> Point:
    """Several points are equal on purpose: attempts whose point another trial has count as well."""
    momentum = round(trial.suggest_float("momentum", 0.5, 0.94), 1)
    lr = 10 ** round(math.log10(trial.suggest_float("lr", 1e-3, 1e-1, log=True)), 1)
    return Point(method="mmap", settings=MmapSettings(), recipe=Recipe(lr=lr, momentum=momentum))


def suggest_from_lists(trial: Any) -> Point:
    """With a parameter that only some points have."""
    length = trial.suggest_categorical("prompt_length", [2, 4])
    rows = trial.suggest_categorical(f"source_rows@b={length}", [1, 2, 4][:length])
    lr = trial.suggest_float("lr", 1e-3, 1e-1, log=True)
    settings = MmapSettings(prompt_length=length, source_rows=rows)
    return Point(method="mmap", settings=settings, recipe=Recipe(lr=lr))


def accuracy(point: Point) -> float:
    recipe = point.recipe
    return 0.8 - abs(math.log10(recipe.lr / 0.02)) / 4 - (recipe.momentum - 0.8) ** 2


class Driver:
    """Records the trials of a search as a driver does, in work ``slots`` at a time."""

    def __init__(
        self,
        draw: Callable[[Any], Point],
        name: str,
        *,
        slots: int = 1,
        several: bool = False,
        constrained: bool = False,
        trials: int = TRIALS,
    ) -> None:
        self._draw, self._slots, self._trials = draw, slots, trials
        self._several, self._constrained = several, constrained
        self._samplers = Samplers(name=name, options=OPTIONS.get(name, {}), seed=7)
        self._records: dict[int, str] = {}
        self._search = self._new()

    def run(self, kill_every: int | None) -> list[dict[str, Any]]:
        """The parameters of all trials; the driver is killed after every so many events."""
        events = [
            *((self._begin, number) for number in range(self._slots)),
            *(
                event
                for number in range(self._slots, self._trials)
                for event in ((self._end, number - self._slots), (self._begin, number))
            ),
        ]
        for count, (event, number) in enumerate(events, start=1):
            event(number)
            if kill_every and count % kill_every == 0:
                self._search = self._new()
                for record in self._read():
                    self._search.replay(proposal_of(record), outcome_of(record))
        return [record.params for record in self._read()]

    def _new(self) -> Proposals:
        directions = ("maximize", "minimize") if self._several else ("maximize",)
        first = [{"lr": 0.0035}]
        return Proposals(self._draw, samplers=self._samplers, directions=directions, first=first)

    def _begin(self, number: int) -> None:
        proposal = self._search.propose(number)
        assert proposal is not None
        self._write(record_of(proposal))

    def _end(self, number: int) -> None:
        record = self._read()[number]
        value = accuracy(Point.from_dict(record.point))
        record.epochs = [{"epoch": epoch, "mean": value - 0.1 / epoch} for epoch in (1, 2)]
        record.state = ("complete", "complete", "failed", "complete", "pruned")[number % 5]
        size = 1000 * Point.from_dict(record.point).recipe.momentum
        if record.state == "complete":
            record.value = [value, size] if self._several else value
            if self._constrained:
                record.attributes[CONSTRAINTS] = {"parameters<=800": size - 800}
        kept = after_end(record.attributes.pop(SAMPLER, {}))
        record.attributes |= {SAMPLER: kept} if kept else {}
        self._search.tell(number, outcome_of(record))
        self._write(record)

    def _write(self, record: TrialRecord) -> None:
        self._records[record.number] = json.dumps(record.to_dict(), allow_nan=False)

    def _read(self) -> list[TrialRecord]:
        texts = [self._records[number] for number in sorted(self._records)]
        return [TrialRecord.from_dict(json.loads(text)) for text in texts]


def equal_after_kills(
    draw: Callable[[Any], Point], name: str, kills: Sequence[int], **options: Any
) -> list[dict[str, Any]]:
    whole = Driver(draw, name, **options).run(None)
    for kill_every in kills:
        assert Driver(draw, name, **options).run(kill_every) == whole
    return whole


NAMES = [name for name in SAMPLERS if name not in ("grid", "gp")]
SLOW = pytest.param("gp", marks=pytest.mark.slow)  # minutes: it fits its model anew for every trial


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize("name", [*NAMES, SLOW, CUSTOM])
def test_a_killed_search_proposes_trial_for_trial_what_an_uninterrupted_one_would(
    name: str, slots: int
) -> None:
    kills = (1,) if name == "gp" else (1, 5)
    found = equal_after_kills(suggest, name, kills, slots=slots)
    assert len({json.dumps(params) for params in found}) == TRIALS


@pytest.mark.parametrize("name", [*(name for name in NAMES if SAMPLERS[name].several), SLOW])
def test_a_killed_search_for_two_objectives_goes_on_trial_for_trial(name: str) -> None:
    kills = (2,) if name == "gp" else (1, 5)
    equal_after_kills(suggest, name, kills, slots=2, several=True, constrained=True)


def test_the_model_of_gp_goes_on_trial_for_trial_with_several_in_work() -> None:
    """Shorter than the others: the last trials alone are chosen by the model."""
    equal_after_kills(suggest, "gp", (17,), slots=2, trials=11)


def test_a_running_trial_without_some_parameters_counts_as_it_did_before_the_kill() -> None:
    """TPE keeps with it what it would have chosen for the parameters of other points."""
    equal_after_kills(suggest_from_lists, "tpe", (1, 2), slots=4)


@pytest.mark.parametrize("name", ["nsga2", "qmc", "cmaes", CUSTOM])
def test_without_what_the_sampler_kept_the_search_would_go_on_differently(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(kill_every: int | None) -> list[dict[str, Any]]:
        return Driver(suggest, name).run(kill_every)

    whole = run(None)
    monkeypatch.setattr(Memory, "to_dict", lambda self: {})
    assert run(5) != whole


def test_tpe_proposes_what_it_did_before_samplers_had_names() -> None:
    """Optuna itself, asked as the search has always asked it."""
    found = Driver(suggest, "tpe")
    found._samplers = Samplers(seed=7)
    found._search = found._new()
    study = optuna.create_study(direction="maximize")
    seen: set[str] = set()
    expected = []
    for number in range(TRIALS):
        for attempt in range(20):
            seed = derived_seed(7, number, attempt)
            study.sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True)
            if number == 0 and attempt == 0:
                study.enqueue_trial({"lr": 0.0035})
            trial = study.ask()
            point = suggest(trial)
            if (key := json.dumps(point.to_dict())) not in seen:
                break
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        seen.add(key)
        expected.append(dict(trial.params))
        value = accuracy(point)
        state = ("complete", "complete", "failed", "complete", "pruned")[number % 5]
        for epoch in (1, 2) if state != "failed" else ():
            study._storage.set_trial_intermediate_value(trial._trial_id, epoch, value - 0.1 / epoch)
        if state == "complete":
            study.tell(trial, value - 0.05)
        else:
            told = optuna.trial.TrialState.PRUNED if state == "pruned" else optuna.trial.TrialState.FAIL
            study.tell(trial, state=told)
    assert found.run(None) == expected


def test_the_sampler_learns_from_trials_of_other_studies_and_never_ranks_them() -> None:
    def propose(known: Sequence[Known]) -> list[float]:
        proposals = Proposals(suggest, samplers=Samplers(options={"n_startup_trials": 5}), known=known)
        return [proposal.params["lr"] for n in range(12) if (proposal := proposals.propose(n))]

    source = Proposals(suggest, samplers=Samplers(name="random"))
    known = [
        Known(params=p.params, distributions=p.distributions, values=[accuracy(p.point)])
        for number in range(40)
        if (p := source.propose(number))
    ]

    def distance(rates: Sequence[float]) -> float:
        return sum(abs(math.log10(rate / 0.02)) for rate in rates)

    assert distance(propose(known)) < distance(propose([]))


class Evil:
    def __reduce__(self) -> Any:
        return exec, ("print('it ran')",)  # Ray puts a print of its own in place of print


def test_a_forged_optimiser_in_a_record_is_refused_and_nothing_of_it_runs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    kept = {"trial": {"cma:generation": 0, "cma:optimizer:0": pickle.dumps(Evil()).hex()}}
    proposals = Proposals(suggest, samplers=Samplers(name="cmaes"))
    point = Point(method="mmap", settings=MmapSettings(), recipe=Recipe())
    record = record_of(Proposal(3, {}, {}, point, kept))
    with pytest.raises(InputError, match=r"trial 3.*builtins\.exec"):
        proposals.replay(proposal_of(record), outcome_of(record))
    assert "it ran" not in capsys.readouterr().out
