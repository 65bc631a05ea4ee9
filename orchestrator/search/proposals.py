"""Configurations proposed by Optuna: bounded in cost, reproducible after any interruption. No Ray in it."""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import optuna
from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from mmap_model.cells import Point
from mmap_model.plain import content_key

BEST, LATEST = 200, 800
"""Finished trials that the sampler sees at most: its cost grows with them, not with the study."""

SLACK = 100
"""Further trials that may gather before the older ones are dropped."""

RETRIES = 20
"""Draws from the sampler, and then at random, before a space counts as exhausted."""

Epochs = Mapping[int, float]
"""Objective by epoch."""


@dataclass(frozen=True)
class Proposal:
    """A configuration to train: its Optuna parameters, their distributions as JSON texts, and the point."""

    number: int
    params: dict[str, Any]
    distributions: dict[str, str]
    point: Point


class Proposals:
    """The search of one study.

    The sampler of trial i is seeded from (``seed``, i) and sees only what was told about trials, so a search
    rebuilt from records goes on as if it had never stopped. A point equal to an earlier one is never
    proposed: another is drawn instead.

    Args:
        suggest: draws a point with an Optuna trial, define-by-run.
        sampler: ``tpe``, ``random``, or ``grid`` (then ``grid`` goes through all points).
        seed: of the search.
        first: parameters of trials 0, 1, …; what they leave out is sampled.
        grid: parameters of every point, in order; called anew for each reading.
        best, latest: how many finished trials the sampler sees.
    """

    def __init__(
        self,
        suggest: Callable[[Any], Point],
        *,
        sampler: Literal["tpe", "random", "grid"] = "tpe",
        seed: int = 1,
        first: Sequence[Mapping[str, Any]] = (),
        grid: Callable[[], Iterable[Mapping[str, Any]]] | None = None,
        best: int = BEST,
        latest: int = LATEST,
    ) -> None:
        assert (sampler == "grid") == (grid is not None), "a grid search needs its grid, others have none"
        self._suggest = suggest
        self._sampler, self._seed = sampler, seed
        self._first = first
        self._grid: Iterator[Mapping[str, Any]] | None = iter(grid()) if grid else None
        self._best, self._latest = best, latest
        self._seen: dict[str, int] = {}
        self._optuna_numbers: dict[int, int] = {}
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._study, self._storage = _new_study()

    def propose(self, number: int) -> Proposal | None:
        """A point for trial ``number`` that no other trial has; None if there is none left."""
        self._forget_old()
        for fixed, sampler in self._attempts(number):
            self._study.sampler = sampler
            if fixed is not None:
                self._study.enqueue_trial(dict(fixed))
            trial = self._study.ask()
            point = self._suggest(trial)
            key = content_key(point.to_dict())
            if key in self._seen:
                # Told as failed, which samplers ignore: what they see must not depend on interruptions.
                self._study.tell(trial, state=TrialState.FAIL)
                continue
            self._seen[key] = number
            self._optuna_numbers[number] = trial.number
            distributions = {n: distribution_to_json(d) for n, d in trial.distributions.items()}
            return Proposal(number, dict(trial.params), distributions, point)
        return None

    def tell(self, number: int, state: str, epochs: Epochs) -> None:
        """The end of a proposed trial.

        Args:
            number: of the trial.
            state: ``complete`` (value: that of the last epoch), ``pruned``, or anything else for failed.
            epochs: the objective by epoch; an objective that is not a number makes a failure.
        """
        optuna_number = self._optuna_numbers.pop(number)
        outcome, value = _outcome(state, epochs)
        if outcome is not TrialState.FAIL:
            study_id = self._storage.get_study_id_from_name(self._study.study_name)
            trial_id = self._storage.get_trial_id_from_study_id_trial_number(study_id, optuna_number)
            for epoch, mean in epochs.items():
                self._storage.set_trial_intermediate_value(trial_id, epoch, mean)
        self._study.tell(optuna_number, value if outcome is TrialState.COMPLETE else None, state=outcome)

    def replay(
        self,
        number: int,
        state: str,
        params: Mapping[str, Any],
        distributions: Mapping[str, str],
        point: Mapping[str, Any],
        epochs: Epochs,
    ) -> None:
        """Take a recorded trial in; in order of their numbers. ``running`` ones can be told later."""
        self._seen.setdefault(content_key(dict(point)), number)
        running = state == "running"
        outcome, value = (TrialState.RUNNING, None) if running else _outcome(state, epochs)
        if outcome is TrialState.FAIL:
            return
        self._study.add_trial(
            create_trial(
                state=outcome,
                value=value if outcome is TrialState.COMPLETE else None,
                params=dict(params),
                distributions={n: json_to_distribution(text) for n, text in distributions.items()},
                intermediate_values={} if running else dict(epochs),
            )
        )
        if running:
            self._optuna_numbers[number] = len(self._trials()) - 1

    def _attempts(self, number: int) -> Iterator[tuple[Mapping[str, Any] | None, Any]]:
        """Fixed parameters and the sampler of one attempt after the other."""
        if number < len(self._first):
            yield self._first[number], self._make_sampler(number, 0)
        if self._grid is not None:
            for params in self._grid:
                yield params, optuna.samplers.RandomSampler(0)
            return
        for attempt in range(RETRIES):
            yield None, self._make_sampler(number, attempt)
        for attempt in range(RETRIES):
            yield None, optuna.samplers.RandomSampler(_derived_seed(self._seed, number, RETRIES + attempt))

    def _make_sampler(self, number: int, attempt: int) -> optuna.samplers.BaseSampler:
        seed = _derived_seed(self._seed, number, attempt)
        if self._sampler != "tpe":
            return optuna.samplers.RandomSampler(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # multivariate and group are called experimental
            return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True)

    def _trials(self) -> list[FrozenTrial]:
        return list(self._study.get_trials(deepcopy=False))

    def _forget_old(self) -> None:
        """Start a new Optuna study of the trials that are still to be seen, now and then."""
        trials = self._trials()
        if len(trials) <= self._best + self._latest + SLACK:
            return
        finished = [t for t in trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
        earlier = finished[: -self._latest]
        earlier.sort(key=_score, reverse=True)
        kept = {t.number for t in [*finished[-self._latest :], *islice(earlier, self._best)]}
        running = {optuna_number: number for number, optuna_number in self._optuna_numbers.items()}
        self._study, self._storage = _new_study()
        for trial in trials:
            if trial.number in kept or trial.number in running:
                self._study.add_trial(trial)
            if trial.number in running:
                self._optuna_numbers[running[trial.number]] = len(self._trials()) - 1


def _new_study() -> tuple[optuna.Study, optuna.storages.InMemoryStorage]:
    storage = optuna.storages.InMemoryStorage()
    return optuna.create_study(storage=storage, direction="maximize"), storage


def _outcome(state: str, epochs: Epochs) -> tuple[TrialState, float | None]:
    last = epochs[max(epochs)] if epochs else None
    if state not in ("complete", "pruned") or last is None:
        return TrialState.FAIL, None
    if any(mean is None or math.isnan(mean) for mean in epochs.values()):
        return TrialState.FAIL, None
    return (TrialState.COMPLETE if state == "complete" else TrialState.PRUNED), last


def _score(trial: FrozenTrial) -> float:
    """For keeping the best: the value, or the last of a pruned trial, which ranks behind complete ones."""
    if trial.state is TrialState.COMPLETE:
        assert trial.value is not None, "a complete trial has a value"
        return float(trial.value)
    return -math.inf if trial.last_step is None else float(trial.intermediate_values[trial.last_step]) - 1e6


def _derived_seed(*parts: int) -> int:
    """A seed below 2³² that depends on all parts."""
    return int.from_bytes(hashlib.sha256(json.dumps(parts).encode()).digest()[:4], "big")
