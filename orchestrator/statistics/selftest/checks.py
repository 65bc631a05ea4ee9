"""What a self-test finds: what was stated, what was reached, and whether that is within a bound."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from orchestrator.statistics.selftest.noise import Noise, Normal
from orchestrator.statistics.summary import CONFIDENCE


@dataclass(frozen=True, kw_only=True)
class Check:
    """One figure.

    Attributes:
        name: what was tried.
        measure: what was measured.
        stated: what the statistics claim, in words.
        reached: the figure: a share in 0 … 1, or a number of residual standard deviations.
        low, high: Monte-Carlo interval of it at 95 %; None where it has none.
        bound: what is required, in words; empty: for information.
        holds: whether it is met.
        share: the figure is a share.
    """

    name: str
    measure: str
    stated: str
    reached: float
    low: float | None = None
    high: float | None = None
    bound: str = ""
    holds: bool = True
    share: bool = True

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_share(
        cls,
        name: str,
        measure: str,
        count: int,
        of: int,
        *,
        stated: str,
        bound: str,
        holds: Callable[[float, float, float], bool],
    ) -> Check:
        """Check a share, ``count`` of ``of``; ``holds`` takes it and the ends of its interval."""
        reached, (low, high) = count / of, proportion(count, of)
        return cls(
            name=name,
            measure=measure,
            stated=stated,
            reached=reached,
            low=low,
            high=high,
            bound=bound,
            holds=holds(reached, low, high),
        )


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How a suite is run.

    Attributes:
        repeats: studies made per line.
        noise: of their values.
        seed: decides all that is drawn.
        tell: told what is being tried and how many of the repeats are done.
    """

    repeats: int
    noise: Noise = field(default_factory=Normal)
    seed: int = 0
    tell: Callable[[str], None] = lambda _: None

    def random(self, name: str) -> random.Random:
        """The source of chance of one line: the same whatever other lines draw."""
        return random.Random(f"{self.seed} {name}")

    def each(self, name: str) -> Iterator[int]:
        """Count the repeats of one line, and tell of them."""
        for number in range(self.repeats):
            if number % TOLD == 0:
                self.tell(f"{name}: {number} of {self.repeats}")
            yield number


TOLD = 20
"""Repeats between two messages."""


@dataclass(frozen=True, kw_only=True)
class Suite:
    """One simulation.

    Attributes:
        about: what it checks, as a sentence.
        repeats: by default.
        run: makes studies and yields what was found.
    """

    about: str
    repeats: int
    run: Callable[[Setting], Iterator[Check]]


def proportion(count: int, of: int) -> tuple[float, float]:
    """The Clopper-Pearson interval of a share at 95 %."""
    from scipy.special import betaincinv

    tail = (1 - CONFIDENCE) / 2
    low = 0.0 if count == 0 else float(betaincinv(count, of - count + 1, tail))
    high = 1.0 if count == of else float(betaincinv(count + 1, of - count, 1 - tail))
    return low, high


def mean_interval(values: list[float]) -> tuple[float, float, float]:
    """Mean and its 95 % interval by the normal distribution, of many values."""
    n = len(values)
    mean = math.fsum(values) / n
    half = 1.96 * math.sqrt(math.fsum((v - mean) ** 2 for v in values) / max(n - 1, 1) / n)
    return mean, mean - half, mean + half
