"""Configurations proposed by Optuna: bounded in cost, reproducible after any interruption. No Ray in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import optuna
from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from mmap_model.cells import Point
from mmap_model.plain import content_key
from orchestrator.search.memory import Memory
from orchestrator.search.samplers import Samplers

BEST, LATEST = 200, 800
"""Finished trials that the sampler sees at most, where it need not see all: its cost grows with them, not
with the study."""

SLACK = 100
"""Further trials that may gather before the older ones are dropped."""

RETRIES = 20
"""Draws from the sampler, and then at random, before a space counts as exhausted."""

Epochs = Mapping[int, float]
"""Objective by epoch."""


@dataclass(frozen=True)
class Proposal:
    """A configuration to train: its Optuna parameters, their distributions as JSON texts, and the point.

    Attributes:
        kept: what the sampler keeps of it (``Memory.to_dict``): ``replay`` takes it back.
    """

    number: int
    params: dict[str, Any]
    distributions: dict[str, str]
    point: Point
    kept: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TrialOutcome:
    """What a trial came to, for the sampler.

    Attributes:
        state: ``complete``, ``pruned``, ``running``, or anything else for failed.
        epochs: the objective by epoch. The value is that of the last one, unless ``values`` are given.
        values: of a complete trial of several objectives, in their order.
        violations: of a complete trial, by constraint: above 0 where it is not met.
    """

    state: str
    epochs: Epochs = field(default_factory=dict)
    values: Sequence[float] | None = None
    violations: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Known:
    """A trial of another study that the sampler is told of.

    Attributes:
        attributes: those by which the sampler takes it for one of its own.
    """

    params: Mapping[str, Any]
    distributions: Mapping[str, str]
    values: Sequence[float]
    violations: Mapping[str, float] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)


class Proposals:
    """The search of one study.

    The sampler of trial i is seeded from (``seed``, i) and sees only what was told about trials, so a search
    rebuilt from records goes on as if it had never stopped. A point equal to an earlier one is never
    proposed: another is drawn instead.

    Args:
        suggest: draws a point with an Optuna trial, define-by-run.
        samplers: make the sampler of every trial.
        first: parameters of trials 0, 1, …; what they leave out is sampled.
        grid: parameters of every point, in order; called anew for each reading. For ``grid``, and only there.
        directions: ``maximize`` or ``minimize`` for each objective.
        known: trials of other studies, which the sampler sees as if they came before trial 0.
        best, latest: how many finished trials the sampler sees.
    """

    def __init__(
        self,
        suggest: Callable[[Any], Point],
        *,
        samplers: Samplers | None = None,
        first: Sequence[Mapping[str, Any]] = (),
        grid: Callable[[], Iterable[Mapping[str, Any]]] | None = None,
        directions: Sequence[str] = ("maximize",),
        known: Iterable[Known] = (),
        best: int = BEST,
        latest: int = LATEST,
    ) -> None:
        self._samplers = samplers or Samplers()
        assert (self._samplers.name == "grid") == (grid is not None), "a grid search needs its grid"
        self._suggest, self._first = suggest, first
        self._grid: Iterator[Mapping[str, Any]] | None = iter(grid()) if grid else None
        self._directions = tuple(directions)
        self._best, self._latest = best, latest
        self._seen: dict[str, int] = {}
        self._optuna_numbers: dict[int, int] = {}
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._study, self._storage = self._new_study()
        for trial in known:
            self._add(
                create_trial(
                    values=list(trial.values),
                    params=dict(trial.params),
                    distributions=_distributions(trial.distributions),
                    system_attrs=dict(trial.attributes),
                    constraints=dict(trial.violations) or None,
                )
            )

    def propose(self, number: int) -> Proposal | None:
        """A point for trial ``number`` that no other trial has; None if there is none left."""
        self._forget_old()
        before, dropped = self._study_attributes(), 0
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
                dropped += 1
                continue
            self._seen[key] = number
            self._optuna_numbers[number] = trial.number
            distributions = {n: distribution_to_json(d) for n, d in trial.distributions.items()}
            attributes = self._storage.get_trial(self._trial_id(trial.number)).system_attrs
            memory = Memory.of(attributes, before, self._study_attributes(), dropped)
            if self._samplers.is_bounded:
                memory = memory.while_running
            return Proposal(number, dict(trial.params), distributions, point, memory.to_dict())
        return None

    def tell(self, number: int, outcome: TrialOutcome) -> None:
        """The end of a proposed trial. A value that is not a number makes a failure."""
        optuna_number = self._optuna_numbers.pop(number)
        state, values = self._end(outcome)
        if state is not TrialState.FAIL:
            trial_id = self._trial_id(optuna_number)
            for epoch, mean in outcome.epochs.items() if len(self._directions) == 1 else ():
                self._storage.set_trial_intermediate_value(trial_id, epoch, mean)
            for name, value in _constraint_attributes(outcome.violations).items():
                self._storage.set_trial_system_attr(trial_id, name, value)
        self._study.tell(optuna_number, values, state=state)

    def replay(self, proposal: Proposal, outcome: TrialOutcome) -> None:
        """Take a recorded trial in; in order of their numbers. ``running`` ones can be told later.

        Raises:
            InputError: what the sampler kept of it is damaged.
        """
        self._forget_old()  # when the search forgot as well, so that both see the same
        number = proposal.number
        self._seen.setdefault(content_key(proposal.point.to_dict()), number)
        memory = Memory.from_dict(proposal.kept, f"trial {number}")
        running = outcome.state == "running"
        if not running and self._samplers.is_bounded and self._end(outcome)[0] is TrialState.FAIL:
            return
        for _ in range(memory.dropped):  # they count where a sampler goes by Optuna's numbers
            self._add(create_trial(state=TrialState.FAIL))
        for name, value in memory.study.items():
            self._storage.set_study_system_attr(self._study_id, name, value)
        self._optuna_numbers[number] = self._add(
            create_trial(
                state=TrialState.RUNNING,
                params=dict(proposal.params),
                distributions=_distributions(proposal.distributions),
                system_attrs=dict(memory.trial),
            )
        )
        if not running:
            self.tell(number, outcome)

    def _attempts(self, number: int) -> Iterator[tuple[Mapping[str, Any] | None, Any]]:
        """Fixed parameters and the sampler of one attempt after the other."""
        if number < len(self._first):
            yield self._first[number], self._samplers.make(number, 0)
        if self._grid is not None:
            for params in self._grid:
                yield params, optuna.samplers.RandomSampler(0)
            return
        for attempt in range(RETRIES):
            yield None, self._samplers.make(number, attempt)
        for attempt in range(RETRIES):
            yield None, self._samplers.at_random(number, RETRIES + attempt)

    def _trials(self) -> list[FrozenTrial]:
        return list(self._study.get_trials(deepcopy=False))

    def _study_attributes(self) -> dict[str, Any]:
        if self._samplers.is_bounded:
            return {}
        return dict(self._storage.get_study_system_attrs(self._study_id))

    @property
    def _study_id(self) -> int:
        return int(self._storage.get_study_id_from_name(self._study.study_name))

    def _trial_id(self, optuna_number: int) -> int:
        return int(self._storage.get_trial_id_from_study_id_trial_number(self._study_id, optuna_number))

    def _add(self, trial: FrozenTrial) -> int:
        """Add a trial; its number in Optuna's study."""
        added = self._storage.create_new_trial(self._study_id, template_trial=trial)
        return int(self._storage.get_trial_number_from_id(added))

    def _end(self, outcome: TrialOutcome) -> tuple[TrialState, list[float] | None]:
        """State and values as Optuna takes them. Of several objectives a pruned trial has no value."""
        several = len(self._directions) > 1
        if outcome.state not in ("complete", "pruned") or (several and outcome.state == "pruned"):
            return TrialState.FAIL, None
        if any(mean is None or math.isnan(mean) for mean in outcome.epochs.values()):
            return TrialState.FAIL, None
        values = outcome.values
        if values is None and outcome.epochs and not several:
            values = [outcome.epochs[max(outcome.epochs)]]
        if values is None or not all(map(math.isfinite, values)):
            return TrialState.FAIL, None
        return (
            (TrialState.COMPLETE, list(values)) if outcome.state == "complete" else (TrialState.PRUNED, None)
        )

    def _forget_old(self) -> None:
        """Start a new Optuna study of the trials that are still to be seen, now and then."""
        if not self._samplers.is_bounded:
            return
        trials = self._trials()
        finished = [t for t in trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
        if len(finished) <= self._best + self._latest + SLACK:
            return
        earlier = finished[: -self._latest]
        earlier.sort(key=self._score(earlier), reverse=True)
        kept = {t.number for t in [*finished[-self._latest :], *islice(earlier, self._best)]}
        running = {optuna_number: number for number, optuna_number in self._optuna_numbers.items()}
        self._study, self._storage = self._new_study()
        for trial in trials:
            if trial.number in kept or trial.number in running:
                added = self._add(trial)
            if trial.number in running:
                self._optuna_numbers[running[trial.number]] = added

    def _new_study(self) -> tuple[optuna.Study, optuna.storages.InMemoryStorage]:
        storage = optuna.storages.InMemoryStorage()
        sampler = self._samplers.make(0, 0)
        return optuna.create_study(storage=storage, directions=self._directions, sampler=sampler), storage

    def _score(self, trials: Sequence[FrozenTrial]) -> Callable[[FrozenTrial], Any]:
        """For keeping the best: the value, or the last of a pruned trial, which ranks behind complete ones.

        Of several objectives fewer trials that are better in all of them; those that meet their constraints
        come first.
        """
        signs = [1 if direction == "maximize" else -1 for direction in self._directions]

        def gains(trial: FrozenTrial) -> list[float]:
            assert trial.values is not None, "a complete trial has values"
            return [sign * value for sign, value in zip(signs, trial.values, strict=True)]

        def score(trial: FrozenTrial) -> Any:
            met = not any(violation > 0 for violation in trial.constraints.values())
            if trial.state is not TrialState.COMPLETE:
                last = trial.last_step
                return False, -math.inf if last is None else float(trial.intermediate_values[last])
            if len(signs) == 1:
                return True, met, gains(trial)[0]
            own = gains(trial)
            ahead = sum(
                all(a >= b for a, b in zip(gains(other), own, strict=True)) and gains(other) != own
                for other in trials
            )
            return True, met, -ahead

        return score


def _distributions(texts: Mapping[str, str]) -> dict[str, Any]:
    return {name: json_to_distribution(text) for name, text in texts.items()}


def _constraint_attributes(violations: Mapping[str, float]) -> dict[str, Any]:
    """As Optuna keeps them with a trial."""
    if not violations:
        return {}
    return dict(create_trial(state=TrialState.FAIL, constraints=dict(violations)).system_attrs)
