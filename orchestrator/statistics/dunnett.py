"""Dunnett's one-sided test, by which Gupta's rule says which of k rows could be the best.

The best of k equal rows leads a given other by at most d·s·√(2/n) with probability 0.95, where d is the
quantile of the largest of k − 1 correlated differences over s (Dunnett, JASA 1955). So the truly best row is
among those within d·s·√(2/n) of the best mean in 95 studies of 100, whichever it is (Gupta, Technometrics
1965; Hsu, Multiple Comparisons 1996, chapter 4). This asks less than Tukey's test, which judges all pairs in
both directions. Tests compare it with ``scipy.stats.multivariate_t``.
"""

from __future__ import annotations

import math
from functools import lru_cache

from orchestrator.statistics.studentized import ROOT_HALF, STEP, invert, normal, over_scale


@lru_cache(maxsize=256)
def quantile(probability: float, k: int, nu: int) -> float:
    """d such that each of k − 1 means is ahead of the k-th by at most d·s·√(2/n), if all are equal.

    Args:
        probability: in (1/2, 1).
        k: number of means, the one compared with included, at least 2; with two d is Student's t.
        nu: degrees of freedom of s², at least 1.

    Returns:
        d(probability; k, ν), to about nine digits.
    """
    assert 0.5 < probability < 1 and k >= 2 and nu >= 1, "two means and one degree of freedom at least"
    return invert(lambda d: cdf(d, k, nu), probability)


def cdf(d: float, k: int, nu: int) -> float:
    """P(all of k − 1 differences <= d·s·√2) of standard normal variables to one more, d >= 0."""
    return over_scale(lambda s: lead_cdf(d * s * math.sqrt(2), k), nu)


def lead_cdf(lead: float, k: int) -> float:
    """P(k − 1 standard normal variables lead one more by at most ``lead``): ∫ φ(z) Φ(z + lead)^(k−1) dz."""
    total = 0.0
    for z, density, _ in normal():
        total += density * (0.5 * math.erfc(-(z + lead) * ROOT_HALF)) ** (k - 1)
    return min(1.0, total * STEP)
