"""The studentized range of Tukey's test: how far apart the best and the worst of k equal means may lie.

Integrated here in milliseconds from `math` alone; tests compare it with ``scipy.stats.studentized_range``,
whose import takes longer than reading the results of a study.
"""

from __future__ import annotations

import math
from functools import lru_cache

STEP = 0.125
"""Of the trapezoid rule over a standard normal variable. It converges exponentially for such integrands."""

LIMIT = 8.5
"""Standard deviations beyond which a normal density contributes nothing at the accuracy wanted here."""

SCALE_STEP = 0.04
"""Of the trapezoid rule over the logarithm of s, or a quarter of its spread where that is less."""


@lru_cache(maxsize=256)
def quantile(probability: float, k: int, nu: int) -> float:
    """q such that the range of k standard normal means over an independent s with ν degrees is at most q.

    Args:
        probability: in (0, 1).
        k: number of means, at least 2.
        nu: degrees of freedom of s², at least 1.

    Returns:
        q(probability; k, ν), to about nine digits.
    """
    assert 0 < probability < 1 and k >= 2 and nu >= 1, "two means and one degree of freedom at least"
    low, high = 0.0, 4.0
    while cdf(high, k, nu) < probability:
        low, high = high, 2 * high
    below, above = cdf(low, k, nu) - probability, cdf(high, k, nu) - probability
    side = 0
    for _ in range(100):
        # The Illinois rule: false position that halves the value of an end that stays.
        middle = (low * above - high * below) / (above - below)
        value = cdf(middle, k, nu) - probability
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


def cdf(q: float, k: int, nu: int) -> float:
    """P(range of k standard normal variables <= q·s) for an independent s with ν s² ~ χ²(ν)."""
    if q <= 0:
        return 0.0
    constant = math.log(2) + nu / 2 * math.log(nu / 2) - math.lgamma(nu / 2)
    # x = ln s is close to normal with this spread; to the left the integrand falls as e^((ν + k − 1)x).
    spread = 1 / math.sqrt(2 * nu)
    left, right = -max(LIMIT * spread, 37 / (nu + k - 1)), LIMIT * spread
    step = min(SCALE_STEP, spread / 4)
    total = 0.0
    x = left
    while x <= right:
        density = math.exp(constant + nu * (x - math.exp(2 * x) / 2))
        if density > 1e-18:
            total += density * range_cdf(q * math.exp(x), k)
        x += step
    return min(1.0, total * step)


def range_cdf(width: float, k: int) -> float:
    """P(range of k standard normal variables <= width): k ∫ φ(z) [Φ(z) − Φ(z − width)]^(k−1) dz."""
    total = 0.0
    for z, density, below in _normal():
        inside = below - 0.5 * math.erfc((width - z) * _ROOT_HALF)
        total += density * inside ** (k - 1)
    return min(1.0, k * total * STEP)


_ROOT_HALF = math.sqrt(0.5)


@lru_cache(maxsize=1)
def _normal() -> tuple[tuple[float, float, float], ...]:
    """Nodes of the standard normal distribution: z, φ(z), Φ(z)."""
    count = round(LIMIT / STEP)
    nodes = (i * STEP for i in range(-count, count + 1))
    return tuple(
        (z, math.exp(-z * z / 2) / math.sqrt(2 * math.pi), 0.5 * math.erfc(-z * _ROOT_HALF)) for z in nodes
    )
