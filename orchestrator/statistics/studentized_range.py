"""The studentized range of Tukey's test: how far apart the best and the worst of k equal means may lie.

Tests compare it with ``scipy.stats.studentized_range``.
"""

from __future__ import annotations

import math
from functools import lru_cache

from orchestrator.statistics.studentized import ROOT_HALF, STEP, invert, normal, over_scale


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
    return invert(lambda q: cdf(q, k, nu), probability)


def cdf(q: float, k: int, nu: int) -> float:
    """P(range of k standard normal variables <= q·s) for an independent s with ν s² ~ χ²(ν)."""
    return 0.0 if q <= 0 else over_scale(lambda s: range_cdf(q * s, k), nu, k - 1)


def range_cdf(width: float, k: int) -> float:
    """P(range of k standard normal variables <= width): k ∫ φ(z) [Φ(z) − Φ(z − width)]^(k−1) dz."""
    total = 0.0
    for z, density, below in normal():
        inside = below - 0.5 * math.erfc((width - z) * ROOT_HALF)
        total += density * inside ** (k - 1)
    return min(1.0, k * total * STEP)
