"""A race of the best configurations of a search on fresh seeds: which of them fall, when, and when it ends.

Seed after seed all that still stand are measured. Against each finalist i stands the mean over its rivals j
of the evidence E_ij that j is better (`.evidence`), which is itself a test martingale where i is the best;
a rival that has fallen keeps its last value. Finalist i falls when that mean reaches 1/α. So the best
finalist falls, at any seed, with probability at most α: the race may be looked at after every seed and
stopped for any reason.

The race ends when one is left, when no survivor can be more than ``within`` better than another, or when
the budget does not pay for the next seed. How much better one can be is bounded by inverting the same
evidence, at α/(k − 1) for each pair of the k finalists: with probability at least 1 − α none of the bounds
between the best and the others is ever too small.

Everything here is computed from the values alone, one seed after another in their order. A seed whose cells
were trained ahead of time, on slots that had nothing else to do, changes nothing: values of a finalist from
seeds after its fall are not used, and the budget counts the cells that a race of one seed at a time would
train.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from orchestrator.statistics.evidence import Differences, log_evidence, rules_out, upper_limit
from orchestrator.statistics.noise import ResidualNoise

Finalist = int
"""Its number as a trial."""

Wave = Mapping[Finalist, float | None]
"""The values of one fresh seed, each the mean over splits; None where a cell failed for good."""

RaceEnd = Literal["one left", "within", "budget", "none left"]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What a race is decided by.

    Attributes:
        alpha: probability, at most, that the best finalist falls.
        within: survivors that differ by no more are good enough; None: only one may be left.
        budget: cells.
        cells: of one finalist at one seed: the number of splits.
        noise: of the search; None: nothing is known before the race.
    """

    alpha: float = 0.05
    within: float | None = None
    budget: int
    cells: int = 1
    noise: ResidualNoise | None = None


@dataclass(frozen=True, kw_only=True)
class Fall:
    """A finalist that left the race.

    Attributes:
        finalist: its number.
        seed: 1-based index of the fresh seed after which it fell.
        evidence: the mean of E over its rivals by then; None if it left because a cell failed.
        against: the rival with the strongest evidence.
    """

    finalist: Finalist
    seed: int
    evidence: float | None
    against: Finalist | None


@dataclass(frozen=True, kw_only=True)
class Race:
    """How a race stands.

    Attributes:
        standing: finalists that have not fallen, in the order given.
        fallen: the others, as they fell.
        seeds: fresh seeds that were decided on.
        cells: trained up to there, seed after seed.
        evidence: against each finalist, the mean over its rivals (1 before any seed); its last value for a
            fallen one.
        pairs: by (i, j) the last E that j is better than i.
        gap: bound on how much better one survivor is than another; infinite while nothing bounds it.
        end: why the race is over; None while it goes on.
    """

    standing: tuple[Finalist, ...]
    fallen: tuple[Fall, ...] = ()
    seeds: int = 0
    cells: int = 0
    evidence: Mapping[Finalist, float] = field(default_factory=dict)
    pairs: Mapping[tuple[Finalist, Finalist], float] = field(default_factory=dict)
    gap: float = math.inf
    end: RaceEnd | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; a gap that nothing bounds is None."""
        return {
            "standing": list(self.standing),
            "fallen": [dict(vars(fall)) for fall in self.fallen],
            "seeds": self.seeds,
            "cells": self.cells,
            "evidence": {str(finalist): value for finalist, value in self.evidence.items()},
            "pairs": [[i, j, value] for (i, j), value in self.pairs.items()],
            "gap": self.gap if math.isfinite(self.gap) else None,
            "end": self.end,
        }


def decide(finalists: Sequence[Finalist], waves: Iterable[Wave], rules: Rules) -> Race:
    """Decide a race as far as the values go.

    Args:
        finalists: two or more. waves: fresh seeds in their order. The first that lacks a value of a
        finalist still standing ends what is
            known; those of fallen finalists are ignored.
        rules: of the race.
    """
    assert len(finalists) >= 2, "a race needs two finalists"
    course = _Course(tuple(finalists), rules)
    for wave in waves:
        if course.end is not None or any(finalist not in wave for finalist in course.standing):
            break
        course.take(wave)
    return course.race()


class _Course:
    """The race from seed to seed."""

    def __init__(self, finalists: tuple[Finalist, ...], rules: Rules) -> None:
        self._finalists, self._rules = finalists, rules
        self._limit = math.log(1 / rules.alpha)
        self._bound = math.log((len(finalists) - 1) / rules.alpha)
        self.standing = finalists
        self._values: dict[Finalist, list[float]] = {finalist: [] for finalist in finalists}
        self._pairs = dict.fromkeys(itertools.permutations(finalists, 2), 0.0)
        self._fallen: list[Fall] = []
        self._seeds = self._cells = 0
        self._apart: list[Differences] | None = None
        self.end = self._find_end()

    def take(self, wave: Wave) -> None:
        """Decide on one more seed."""
        self._seeds += 1
        self._cells += len(self.standing) * self._rules.cells
        failed = [finalist for finalist in self.standing if wave[finalist] is None]
        for finalist in failed:
            self._fallen.append(Fall(finalist=finalist, seed=self._seeds, evidence=None, against=None))
        self.standing = tuple(finalist for finalist in self.standing if finalist not in failed)
        for finalist in self.standing:
            value = wave[finalist]
            assert value is not None, "the failed ones have left"
            self._values[finalist].append(value)
        found = {
            (i, j): Differences.of(
                [b - a for a, b in zip(self._values[i], self._values[j], strict=True)], self._rules.noise
            )
            for i, j in itertools.permutations(self.standing, 2)
        }
        self._pairs |= {pair: log_evidence(differences) for pair, differences in found.items()}
        self._fell()
        self._apart = [d for (i, j), d in found.items() if i in self.standing and j in self.standing]
        self.end = self._find_end()

    def _fell(self) -> None:
        """Take out those whose evidence has reached the limit, never all of them."""
        against = {finalist: self._against(finalist) for finalist in self.standing}
        beaten = [finalist for finalist in self.standing if against[finalist] >= self._limit]
        if len(beaten) == len(self.standing) > 0:
            beaten.remove(min(beaten, key=against.__getitem__))
        for finalist in beaten:
            rivals = [rival for rival in self.standing if rival != finalist]
            strongest = max(rivals, key=lambda rival: self._pairs[finalist, rival], default=None)
            self._fallen.append(
                Fall(
                    finalist=finalist,
                    seed=self._seeds,
                    evidence=_power(against[finalist]),
                    against=strongest,
                )
            )
        self.standing = tuple(finalist for finalist in self.standing if finalist not in beaten)

    def _against(self, finalist: Finalist) -> float:
        """ln of the mean E over all rivals, those that have fallen with their last value."""
        logs = [self._pairs[finalist, rival] for rival in self._finalists if rival != finalist]
        largest = max(logs)
        return largest + math.log(math.fsum(math.exp(value - largest) for value in logs) / len(logs))

    def _find_end(self) -> RaceEnd | None:
        rules = self._rules
        if not self.standing:
            return "none left"
        if len(self.standing) == 1:
            return "one left"
        if rules.within is not None and self._all_within(rules.within):
            return "within"
        if self._cells + len(self.standing) * rules.cells > rules.budget:
            return "budget"
        return None

    def _all_within(self, points: float) -> bool:
        return self._apart is not None and all(rules_out(d, points, self._bound) for d in self._apart)

    def _gap(self) -> float:
        """The largest limit of all pairs; most of them need no search for theirs."""
        if self._apart is None:
            return math.inf
        largest = 0.0
        for differences in sorted(self._apart, key=lambda d: -d.mean):
            if not rules_out(differences, largest, self._bound):
                largest = upper_limit(differences, self._bound)
        return largest

    def race(self) -> Race:
        """How it stands."""
        return Race(
            standing=self.standing,
            fallen=tuple(self._fallen),
            seeds=self._seeds,
            cells=self._cells,
            evidence={finalist: _power(self._against(finalist)) for finalist in self._finalists},
            pairs={pair: _power(value) for pair, value in self._pairs.items()},
            gap=self._gap(),
            end=self.end,
        )


def _power(logarithm: float) -> float:
    """e to it, as far as a number goes."""
    return math.exp(min(logarithm, 700.0))
