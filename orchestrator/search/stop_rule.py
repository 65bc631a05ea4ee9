"""Which trials are stopped early, by what they reach at rungs over seeds and epochs. No Ray, no records.

The values of two trials at one epoch and the same seeds differ by what their configurations differ, and by
noise: in the additive model (configuration + seed) a difference of means over m seeds has standard deviation
s·√(2/m), s² being the pooled residual of trials with all n seeds. Student's t with its ν = (k − 1)(n − 1)
degrees of freedom turns that into chances.

Epochs: a trial whose mean is not among the best 1/factor of those that reached the rung, at the same seeds,
is stopped unless noise may account for it: mean < cut − t(1 − chance; ν)·s·√(2/m). The form is asynchronous
successive halving (Li et al., MLSys 2020).

Seeds: after the last epoch of m of n seeds a trial goes on while it may still become the best. Let d be its
mean difference to the best complete trial at these m seeds. With a flat prior on the true difference, the
mean difference over all n seeds given d has mean d and variance 2σ²(n − m)/(nm); the trial is stopped if the
chance that it is above 0 is below ``chance``: d < −t(1 − chance; ν)·s·√(2(n − m)/(nm)).

Nothing is stopped while two trials with all seeds are not known, for there is no s; nor at a rung over epochs
that fewer than ``factor`` others have reached. With a single seed there never is an s: then the cut alone
decides.
"""

from __future__ import annotations

import math
from bisect import insort
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestrator.statistics.cochran import PooledResidual
from orchestrator.statistics.summary import student_quantile
from orchestrator.study.rungs import seed_stages
from orchestrator.study.scheduler import CHANCE, judged_epochs

if TYPE_CHECKING:
    from orchestrator.study import Study

Values = Sequence[float]
"""Of one trial at one epoch: by seed, each the mean over its splits, in the order of the study."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Why a trial is stopped.

    Attributes:
        seeds, epoch: the rung.
        value: its mean there.
        bar: what it had to reach: the cut, or what the best complete trial has at these seeds.
        allowed: how far it might have stayed below that.
    """

    seeds: int
    epoch: int
    value: float
    bar: float
    allowed: float

    def to_dict(self) -> dict[str, float]:
        return dict(vars(self))


@dataclass
class _Rung:
    """Means of the trials that have reached it, ascending."""

    means: list[float] = field(default_factory=list)
    numbers: set[int] = field(default_factory=set)

    def take(self, number: int, mean: float) -> None:
        if number not in self.numbers:
            self.numbers.add(number)
            insort(self.means, mean)


@dataclass
class _Whole:
    """Trials with all seeds at one epoch."""

    pool: PooledResidual = field(default_factory=PooledResidual)
    known: set[tuple[float, ...]] = field(default_factory=set)

    def take(self, values: Values) -> None:
        """Trials that share their cells are one measurement."""
        row = tuple(values)
        if row not in self.known:
            self.known.add(row)
            self.pool.add(row)


class StopRule:
    """Judges the trials of one study; its state follows from what trials reached, whatever the order.

    Args:
        seeds: of a complete trial, n.
        epochs: of every trial.
        rungs: epochs after which trials are compared, before the last one.
        stages: seeds that a trial has after each stage, ascending, the last one ``seeds``.
        factor: one in so many passes a rung over epochs whatever the noise.
        chance: below which a chance counts as none, at most 0.5.
    """

    def __init__(
        self,
        *,
        seeds: int,
        epochs: int,
        rungs: Sequence[int] = (),
        stages: Sequence[int] = (),
        factor: int = 3,
        chance: float = 0.2,
    ) -> None:
        self.seeds, self.epochs = seeds, epochs
        self.rungs = tuple(rungs)
        self.stages = tuple(stages) or (seeds,)
        assert self.stages[-1] == seeds, "a complete trial has all seeds"
        self._factor, self._chance = factor, chance
        self._reached: dict[tuple[int, int], _Rung] = defaultdict(_Rung)
        self._whole: dict[int, _Whole] = defaultdict(_Whole)
        self._best: tuple[float, tuple[float, ...]] | None = None

    @property
    def can_stop(self) -> bool:
        """Whether there is enough to judge a trial by; before that a trial trains all its seeds together."""
        return self._whole[self.epochs].pool.size > 1

    def first_stage(self) -> int:
        """Seeds that a trial begins with now."""
        return self.stages[0] if self.can_stop else self.seeds

    def next_stage(self, seeds: int) -> int:
        """Seeds of a trial that goes on after ``seeds``."""
        return next(stage for stage in self.stages if stage > seeds)

    def take(self, number: int, epoch: int, values: Values) -> None:
        """Learn what a trial reached, once per epoch and number of seeds.

        Args:
            number: of the trial.
            epoch: 1-based.
            values: at as many of its seeds as it has trained, the first ones; others are left out.
        """
        if (epoch != self.epochs and epoch not in self.rungs) or not all(map(math.isfinite, values)):
            return
        for stage in self.stages:
            if stage <= len(values):
                self._reached[stage, epoch].take(number, _mean(values[:stage]))
        if len(values) == self.seeds:
            self._whole[epoch].take(values)

    def complete(self, values: Values) -> None:
        """Learn that a trial has all its seeds and may be the winner: its values after the last epoch."""
        found = _mean(values), tuple(values)
        if math.isfinite(found[0]) and (self._best is None or found > self._best):
            self._best = found

    def judge(self, epoch: int, values: Values) -> Judgement | None:
        """Say why a trial is to be stopped that has reached an epoch; None if it goes on.

        Call ``take`` first: it is one of those that reached the rung.
        """
        if not all(map(math.isfinite, values)):
            return None
        if epoch == self.epochs:
            return self._may_win(values) if len(values) < self.seeds else None
        return self._may_pass(epoch, values) if epoch in self.rungs else None

    def _may_pass(self, epoch: int, values: Values) -> Judgement | None:
        means = self._reached[len(values), epoch].means
        if len(means) <= self._factor:
            return None
        cut = means[-math.ceil(len(means) / self._factor)]
        return self._judged(epoch, values, cut, math.sqrt(2 / len(values)))

    def _may_win(self, values: Values) -> Judgement | None:
        if self._best is None:
            return None
        n, m = self.seeds, len(values)
        return self._judged(self.epochs, values, _mean(self._best[1][:m]), math.sqrt(2 * (n - m) / (n * m)))

    def _judged(self, epoch: int, values: Values, bar: float, deviations: float) -> Judgement | None:
        """``deviations``: standard deviation of what noise may account for, in units of s."""
        allowed = 0.0
        if self.seeds > 1:
            pool = self._whole[epoch].pool
            nu = (pool.size - 1) * (self.seeds - 1)
            if nu < 1:
                return None
            allowed = student_quantile(1 - self._chance, nu) * pool.deviation(self.seeds - 1) * deviations
        mean = _mean(values)
        if mean >= bar - allowed:
            return None
        return Judgement(seeds=len(values), epoch=epoch, value=mean, bar=bar, allowed=allowed)


def stop_rule(study: Study) -> StopRule | None:
    """The rule of a study; None where trials are not stopped, or Ray Tune decides which are."""
    search = study.search
    if study.protocol != "search" or not search.is_staged:
        return None
    options, seeds, factor = search.scheduler.options, len(study.seeds), search.reduction_factor
    rungs = judged_epochs(
        search.scheduler,
        epochs=study.recipe.epochs,
        reduction_factor=factor,
        warmup=study.recipe.warmup_epochs,
    )
    in_stages = search.scheduler.name == "seeds"
    return StopRule(
        seeds=seeds,
        epochs=study.recipe.epochs,
        rungs=rungs or (),
        stages=seed_stages(seeds, factor, first=options.get("first", 1)) if in_stages else (seeds,),
        factor=factor,
        chance=options.get("chance", CHANCE),
    )


def _mean(values: Values) -> float:
    return math.fsum(values) / len(values)
