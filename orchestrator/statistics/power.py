"""How many seeds tell two configurations apart: the power of the paired t-test.

Of two configurations on the same n seeds with residual standard deviation σ, the n differences have standard
deviation σ√2. Their t with ν = n − 1 is non-central by δ = difference·√n/(σ√2) (Cohen, Statistical Power
Analysis for the Behavioral Sciences 1988, chapter 2). The test is two-sided.
"""

from __future__ import annotations

import math

from orchestrator.statistics.studentized import ROOT_HALF, invert, over_scale
from orchestrator.statistics.summary import CONFIDENCE, student_quantile

POWER = 0.8
"""Probability wanted of finding a difference that is there."""

MOST = 10_000
"""Seeds beyond which no number is given."""


def power(difference: float, sigma: float, seeds: int) -> float:
    """Probability that so many seeds show a difference, by the paired t-test at 5 %.

    Args:
        difference: of two configurations' levels, in the unit of ``sigma``.
        sigma: residual standard deviation, more than 0.
        seeds: at least 2.
    """
    nu = seeds - 1
    critical, shift = student_quantile(0.5 + CONFIDENCE / 2, nu), difference * math.sqrt(seeds / 2) / sigma

    def beyond(s: float) -> float:
        return _below(shift - critical * s) + _below(-shift - critical * s)

    return over_scale(beyond, nu)


def detectable(sigma: float, seeds: int) -> float:
    """The smallest difference that so many seeds show with `POWER`; at least 2 seeds."""
    return invert(lambda x: power(x * sigma, sigma, seeds), POWER) * sigma


def seeds_needed(difference: float, sigma: float) -> int | None:
    """The fewest seeds that show a difference with `POWER`; None if more than `MOST`.

    Args:
        difference: more than 0, in the unit of ``sigma``.
        sigma: residual standard deviation, 0 or more.
    """
    assert difference > 0, "a difference has a size"
    low, high = 1, 2
    while sigma > 0 and power(difference, sigma, high) < POWER:
        low, high = high, 2 * high
        if high > MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(difference, sigma, middle) >= POWER else (middle, high)
    return high


def _below(z: float) -> float:
    return 0.5 * math.erfc(-z * ROOT_HALF)
