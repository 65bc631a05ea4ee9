"""Evidence for a difference: the published formula, its limits, and that it is a test martingale."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
from scipy import integrate, stats

from orchestrator.statistics.evidence import Differences, log_evidence, rules_out, upper_limit
from orchestrator.statistics.noise import ResidualNoise

NOISE = ResidualNoise(s=0.012, nu=18)


def transcribed(d: list[float], noise: ResidualNoise | None) -> float:
    """E as its formula is printed, by SciPy; needs ν ≥ 1 and some spread."""
    n, mean = len(d), float(np.mean(d))
    earlier, s = (noise.nu, noise.s) if noise else (0, 0.0)
    nu = earlier + n - 1
    squares = earlier * 2 * s**2 + sum((x - mean) ** 2 for x in d)
    t = math.sqrt(n) * mean / math.sqrt(squares / nu)
    a = 1 + n
    ratio = ((1 + t**2 / nu) / (1 + t**2 / (nu * a))) ** ((nu + 1) / 2)
    below = stats.t.cdf(t * math.sqrt(n * (nu + 1) / (a * nu + t**2)), nu + 1)
    return float(2 * a**-0.5 * ratio * below)


def test_evidence_is_the_published_formula() -> None:
    rng = random.Random(5)
    for n in (1, 2, 3, 8, 40):
        for mean in (-0.03, -0.001, 0.0, 0.002, 0.02):
            for noise in (NOISE, ResidualNoise(s=0.02, nu=1), None):
                if n == 1 and noise is None:
                    continue
                d = [rng.gauss(mean, 0.017) for _ in range(n)]
                found = math.exp(log_evidence(Differences.of(d, noise)))
                assert found == pytest.approx(transcribed(d, noise), rel=1e-9), (n, mean, noise)


def test_evidence_is_the_bayes_factor_of_a_half_normal_effect() -> None:
    """Of a known σ (very many degrees of freedom): ∫ 2φ(δ) N(d; δσ_d, σ_d) dδ over δ > 0, against δ = 0."""
    sigma = 0.012
    d = [0.01, 0.024, -0.004]
    known = ResidualNoise(s=sigma, nu=2_000_000)
    scaled = np.array(d) / (sigma * math.sqrt(2))

    def likelihood(effect: float) -> float:
        return float(np.prod(stats.norm.pdf(scaled, effect, 1)))

    mixed, _ = integrate.quad(lambda e: 2 * stats.norm.pdf(e) * likelihood(e), 0, 12)
    expected = mixed / likelihood(0.0)
    assert math.exp(log_evidence(Differences.of(d, known))) == pytest.approx(expected, rel=1e-4)


def test_the_sign_alone_is_evidence_where_nothing_is_known_of_the_noise() -> None:
    """One difference of unknown scale: P(d > 0 | δ ~ N⁺(0, 1)) is 3/4, against 1/2."""
    assert math.exp(log_evidence(Differences.of([0.02], None))) == pytest.approx(1.5)
    assert math.exp(log_evidence(Differences.of([-0.02], None))) == pytest.approx(0.5)


@pytest.mark.parametrize("n", [1, 2, 10, 500])
@pytest.mark.parametrize("noise", [None, NOISE, ResidualNoise(s=0.0, nu=4), ResidualNoise(s=0.01, nu=5000)])
def test_evidence_is_finite_for_ties_and_for_differences_without_spread(
    n: int, noise: ResidualNoise | None
) -> None:
    for value in (0.0, 1e-17, 0.5, -0.5):
        found = log_evidence(Differences.of([value] * n, noise))
        assert math.isfinite(found)
        if abs(value) < 1e-9:
            assert found == pytest.approx(-math.log(1 + n) / 2)


def test_evidence_rises_with_the_difference() -> None:
    for noise in (None, NOISE):
        d = [0.004, -0.011, 0.02, 0.001]
        found = [log_evidence(Differences.of(d, noise), shift) for shift in np.linspace(-0.2, 0.2, 81)]
        assert all(a < b for a, b in itertools.pairwise(found))


def test_evidence_of_equal_configurations_has_a_mean_of_one() -> None:
    """At every seed, with the noise of the search as unknown as in practice."""
    rng = np.random.default_rng(3)
    repeats, nu, seeds = 4000, 6, 5
    totals = np.zeros((seeds, repeats))
    for repeat in range(repeats):
        noise = ResidualNoise(s=math.sqrt(float(rng.chisquare(nu)) / nu), nu=nu)
        d = list(rng.normal(0, math.sqrt(2), seeds))
        for n in range(1, seeds + 1):
            totals[n - 1, repeat] = math.exp(log_evidence(Differences.of(d[:n], noise)))
    error = totals.std(axis=1) / math.sqrt(repeats)
    assert (abs(totals.mean(axis=1) - 1) < 4 * error).all(), (totals.mean(axis=1), error)
    assert (error < 0.1).all()


def test_a_limit_is_where_evidence_rules_out() -> None:
    for noise in (NOISE, ResidualNoise(s=0.02, nu=2)):
        found = Differences.of([0.004, -0.011, 0.02, 0.001, 0.009, 0.0], noise)
        limit = upper_limit(found, math.log(20))
        assert rules_out(found, limit * 1.0001, math.log(20))
        assert not rules_out(found, limit * 0.9999, math.log(20))
        assert limit > found.mean


def test_one_seed_without_known_noise_limits_nothing() -> None:
    assert upper_limit(Differences.of([0.01], None), math.log(20)) == math.inf


def test_limits_hold_at_every_seed_at_once() -> None:
    """In one study of twenty, at most, the true mean exceeds any of the limits."""
    rng = np.random.default_rng(11)
    repeats, nu, mean = 600, 12, 0.4
    misses = 0
    for _ in range(repeats):
        noise = ResidualNoise(s=math.sqrt(float(rng.chisquare(nu)) / nu), nu=nu)
        d = list(rng.normal(mean, math.sqrt(2), 8))
        misses += any(
            rules_out(Differences.of(d[:n], noise), mean, math.log(20)) for n in range(1, len(d) + 1)
        )
    assert misses <= stats.binom.ppf(0.999, repeats, 0.05)
    assert misses > 0  # the limits are no wider than they need to be by far
