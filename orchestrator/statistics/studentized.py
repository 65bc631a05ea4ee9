"""Distributions of statistics over an independent s: integrated over s, and inverted.

Shared by the studentized range and by Dunnett's test. From `math` alone and in milliseconds, where importing
`scipy.stats` takes longer than reading the results of a study.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

STEP = 0.125
"""Of the trapezoid rule over a standard normal variable. It converges exponentially for such integrands."""

LIMIT = 8.5
"""Standard deviations beyond which a normal density contributes nothing at the accuracy wanted here."""

SCALE_STEP = 0.04
"""Of the trapezoid rule over the logarithm of s, or a quarter of its spread where that is less."""

ROOT_HALF = math.sqrt(0.5)


def over_scale(cdf: Callable[[float], float], nu: int, power: int = 0) -> float:
    """E cdf(s) over an s with ν s² ~ χ²(ν), at most 1.

    Args:
        cdf: of the statistic at a given s.
        nu: degrees of freedom of s², at least 1.
        power: of s by which ``cdf`` falls as s falls to 0.
    """
    constant = math.log(2) + nu / 2 * math.log(nu / 2) - math.lgamma(nu / 2)
    # x = ln s is close to normal with this spread; to the left the integrand falls as e^((ν + power)x).
    spread = 1 / math.sqrt(2 * nu)
    left, right = -max(LIMIT * spread, 37 / (nu + power)), LIMIT * spread
    step = min(SCALE_STEP, spread / 4)
    total = 0.0
    x = left
    while x <= right:
        density = math.exp(constant + nu * (x - math.exp(2 * x) / 2))
        if density > 1e-18:
            total += density * cdf(math.exp(x))
        x += step
    return min(1.0, total * step)


def invert(cdf: Callable[[float], float], probability: float) -> float:
    """q >= 0 with cdf(q) = probability, to about nine digits; ``cdf`` rises from less at 0 to 1."""
    low, high = 0.0, 4.0
    while cdf(high) < probability:
        low, high = high, 2 * high
    below, above = cdf(low) - probability, cdf(high) - probability
    side = 0
    for _ in range(100):
        # The Illinois rule: false position that halves the value of an end that stays.
        middle = (low * above - high * below) / (above - below)
        value = cdf(middle) - probability
        if abs(value) < 1e-12 or high - low < 1e-11 * high:
            break
        if value < 0:
            low, below = middle, value
            above = above / 2 if side < 0 else above
            side = -1
        else:
            high, above = middle, value
            below = below / 2 if side > 0 else below
            side = 1
    return middle


@lru_cache(maxsize=1)
def normal() -> tuple[tuple[float, float, float], ...]:
    """Nodes of the standard normal distribution, `STEP` apart: z, φ(z), Φ(z)."""
    count = round(LIMIT / STEP)
    nodes = (i * STEP for i in range(-count, count + 1))
    return tuple(
        (z, math.exp(-z * z / 2) / math.sqrt(2 * math.pi), 0.5 * math.erfc(-z * ROOT_HALF)) for z in nodes
    )
