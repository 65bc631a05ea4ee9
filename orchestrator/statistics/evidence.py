"""Evidence that one of two configurations is better, which may be looked at after every seed.

For the differences d of two configurations on the same n seeds, with a variance pooled from these and from
ν₀ earlier degrees of freedom, the value E is a test martingale: if the first is at least as good as the
second, the probability that E *ever* reaches 1/α is at most α (Ville's inequality), however often it is
looked at and whatever decides when to stop. E is the Bayes factor of a standardised difference δ = μ/σ_d
that is positive and half-normal, δ ~ N⁺(0, 1), against δ = 0, with the right-Haar prior 1/σ on the noise: a
function of the maximal invariant t, hence exact for normal errors of unknown variance (Lai, Annals of
Statistics 1976; Grünwald, de Heide and Koolen, Safe Testing, JRSS B 2024).

With S = ν₀·2s₀² + Σ(d − d̄)², ν = ν₀ + n − 1, t = √n·d̄/√(S/ν) and a = 1 + n,

    E = 2a^(−½) · [(1 + t²/ν)/(1 + t²/(νa))]^((ν+1)/2) · F_(ν+1)(t·√(n(ν+1)/(aν + t²)))

where F_m is Student's distribution function with m degrees of freedom. It is computed as a logarithm from
u = t/√ν = √n·d̄/√S, which stays defined where ν or S is zero.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.statistics.cochran import ROUNDING, incomplete_beta
from orchestrator.statistics.noise import ResidualNoise

STEPS = 50
"""Bisections of a limit."""

FARTHEST = 1e6
"""Standard deviations beyond which a limit is as good as none."""


@dataclass(frozen=True)
class Differences:
    """Differences of two configurations over seeds, as far as evidence needs them.

    Attributes:
        n: seeds, at least 1.
        mean: d̄.
        squares: S, the residual sum of squares with that of the earlier noise.
        nu: ν, the degrees of freedom of S.
    """

    n: int
    mean: float
    squares: float
    nu: int

    @classmethod
    def of(cls, differences: Sequence[float], noise: ResidualNoise | None) -> Differences:
        """Of one difference per seed; what is less than a rounding error counts as zero.

        Args:
            differences: n of them.
            noise: of a configuration's value at one seed, known before; s₀ and ν₀.
        """
        n = len(differences)
        assert n >= 1, "evidence needs at least one seed"
        mean = math.fsum(differences) / n
        own = math.fsum((d - mean) ** 2 for d in differences)
        earlier = 0 if noise is None else noise.nu
        squares = (2 * earlier * noise.s**2 if noise else 0.0) + (own if own > n * ROUNDING**2 else 0.0)
        return cls(n, mean if abs(mean) > ROUNDING else 0.0, squares, earlier + n - 1)


def log_evidence(found: Differences, shift: float = 0.0) -> float:
    """ln E that the mean difference is above ``-shift``: the evidence of d + shift. Finite."""
    n, nu = found.n, found.nu
    a = 1 + n
    mean = found.mean + shift
    if mean == 0:
        return -math.log(a) / 2
    if found.squares > 0:
        u = math.sqrt(n) * mean / math.sqrt(found.squares)
        log_ratio = math.log1p(u * u) - math.log1p(u * u / a)
        argument = u * math.sqrt(n * (nu + 1) / (a + u * u))
    else:  # the limit for differences without any spread
        log_ratio = math.log(a)
        argument = math.copysign(math.sqrt(n * (nu + 1)), mean)
    return math.log(2) - math.log(a) / 2 + (nu + 1) / 2 * log_ratio + _log_student(argument, nu + 1)


def rules_out(found: Differences, mean: float, log_threshold: float) -> bool:
    """Whether the differences are evidence enough that their true mean is below ``mean``."""
    turned = Differences(found.n, -found.mean, found.squares, found.nu)
    return log_evidence(turned, mean) >= log_threshold


def upper_limit(found: Differences, log_threshold: float) -> float:
    """The smallest mean difference that the evidence rules out.

    The confidence sequence of the same evidence, by inversion: a mean of at least m is ruled out once E of
    the differences m − d reaches the threshold. With threshold 1/α the true mean exceeds *any* of these
    limits, at whatever seed, with probability at most α. Infinite while so few seeds could not rule
    anything out.

    Args:
        found: the differences.
        log_threshold: ln(1/α).
    """
    unit = math.sqrt(found.squares / max(1, found.nu)) if found.squares > 0 else ROUNDING
    high = unit
    while not rules_out(found, found.mean + high, log_threshold):
        high *= 2
        if high > FARTHEST * unit:
            return math.inf
    low = 0.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        if rules_out(found, found.mean + middle, log_threshold):
            high = middle
        else:
            low = middle
    return found.mean + high


def _log_student(t: float, degrees: int) -> float:
    """ln F_m(t), accurate in the lower tail too: P(T ≤ −t) = ½ I_x(m/2, ½) with x = m/(m + t²)."""
    tail = incomplete_beta(degrees / (degrees + t * t), degrees / 2, 0.5) / 2
    return math.log1p(-tail) if t > 0 else math.log(max(tail, sys.float_info.min))
