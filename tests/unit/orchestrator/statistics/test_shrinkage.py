"""Means drawn together: against the formulas, against dense linear algebra, and at every edge."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import t as student

from orchestrator.statistics.noise import ResidualNoise
from orchestrator.statistics.shrinkage import shrink

Rows = dict[int, dict[str, float]]


def noisy(seed: int, k: int, n: int, *, spread: float = 1.0, missing: float = 0.0) -> Rows:
    """Values by configuration and seed, σ = 0.01; of the first seed all have one."""
    rng = random.Random(seed)
    seeds = {str(s): rng.gauss(0, 0.03) for s in range(n)}
    levels = [0.5 + spread * rng.gauss(0, 0.01) for _ in range(k)]

    def has(seed: str) -> bool:
        return seed == "0" or rng.random() >= missing

    return {
        c: {s: level + own + rng.gauss(0, 0.01) for s, own in seeds.items() if has(s)}
        for c, level in enumerate(levels)
    }


def posterior_share(rows: Mapping[int, Mapping[str, float]], prior: float = 0.0) -> float:
    """E w by quadrature of the balanced formula, substituting τ/σ = tan(x)."""
    y = np.array([list(row.values()) for row in rows.values()])
    k, n = y.shape
    means, grand = y.mean(1), y.mean()
    within = float(((y - means[:, None] - y.mean(0) + grand) ** 2).sum())
    between = float(n * ((means - grand) ** 2).sum())

    def density(x: float) -> float:
        v = 1 + n * math.tan(x) ** 2
        value = v ** (-(k - 1) / 2) * (within + between / v) ** (-(k - 1) * n / 2)
        return value / within ** (-(k - 1) * n / 2) / math.cos(x) ** (2 - 2 * prior)

    top = math.pi / 2
    total = quad(density, 0, top, limit=400)[0]
    return float(
        quad(lambda x: density(x) * (1 - 1 / (1 + n * math.tan(x) ** 2)), 0, top, limit=400)[0] / total
    )


@pytest.mark.parametrize(
    ("k", "n", "spread"), [(3, 2, 1.0), (4, 3, 0.0), (8, 3, 0.5), (20, 3, 2.0), (10, 10, 1.0)]
)
def test_means_are_drawn_to_their_average_by_the_posterior_of_the_formula(
    k: int, n: int, spread: float
) -> None:
    rows = noisy(k + n, k, n, spread=spread)
    found, share = shrink(rows), posterior_share(rows)
    grand = math.fsum(math.fsum(row.values()) for row in rows.values()) / (k * n)
    for name, each in found.estimates.items():
        assert each.mean == pytest.approx(sum(rows[name].values()) / n)
        assert each.shrunk == pytest.approx(grand + share * (each.mean - grand), abs=2e-5)


def test_two_configurations_have_a_proper_posterior() -> None:
    rows = noisy(1, 2, 3, spread=3)
    found, share = shrink(rows), posterior_share(rows, prior=1.0)
    first, second = found.estimates.values()
    assert first.shrunk - second.shrunk == pytest.approx(share * (first.mean - second.mean), rel=2e-3)


@pytest.mark.parametrize("seed", range(20))
def test_complete_tables_are_ranked_as_by_the_mean(seed: int) -> None:
    found = shrink(noisy(seed, 12, 3, spread=seed / 10)).estimates
    by_mean = sorted(found, key=lambda name: found[name].mean)
    assert by_mean == sorted(found, key=lambda name: found[name].shrunk)
    assert max(found, key=lambda name: found[name].best or 0) in by_mean[-4:]
    assert all(e.low < e.shrunk < e.high for e in found.values() if e.low is not None and e.high is not None)
    assert sum(e.best or 0 for e in found.values()) == pytest.approx(1)


def test_equal_configurations_are_drawn_closer_than_unequal_ones() -> None:
    def kept(spread: float) -> float:
        found = shrink(noisy(3, 20, 3, spread=spread)).estimates.values()
        return float(np.std([e.shrunk for e in found]) / np.std([e.mean for e in found]))

    assert kept(0.0) < 0.5 < kept(1.0) < kept(4.0) < 1
    assert kept(4.0) > 0.95


@pytest.mark.parametrize("seed", range(4))
def test_unequal_seeds_are_estimated_as_by_dense_linear_algebra(seed: int) -> None:
    rows = noisy(seed, 6, 4, missing=0.5)
    found = shrink(rows)
    cells = [(c, s) for c, row in rows.items() for s in row]
    seeds = sorted({s for _, s in cells})
    y = np.array([rows[c][s] for c, s in cells])
    x = np.array([[s == other for other in seeds] for _, s in cells], dtype=float)
    z = np.array([[c == other for other in rows] for c, _ in cells], dtype=float)
    nu, p, ratios = len(y) - len(seeds), len(seeds), np.tan(np.linspace(0, math.pi / 2, 4002)[1:-1])
    weights, centres, lows = [], [], []
    for ratio in ratios:
        lam = ratio**2
        v = np.eye(len(y)) + lam * z @ z.T
        inverse = np.linalg.inv(v)
        normal = x.T @ inverse @ x
        beta = np.linalg.solve(normal, x.T @ inverse @ y)
        rest = y - x @ beta
        squares = float(rest @ inverse @ rest)
        weights.append(
            -np.linalg.slogdet(v)[1] / 2 - np.linalg.slogdet(normal)[1] / 2 - nu / 2 * math.log(squares)
            + math.log(1 + lam)
        )  # fmt: skip
        gain = lam * z.T @ inverse
        slope = np.full((len(rows), p), 1 / p) - gain @ x
        covariance = lam * np.eye(len(rows)) - lam * gain @ z + slope @ np.linalg.solve(normal, slope.T)
        centres.append(beta.mean() + gain @ rest)
        lows.append(np.sqrt(np.diag(covariance) * squares / nu))
    weight = np.exp(np.array(weights) - max(weights))
    weight /= weight.sum()
    centre, scale = np.array(centres), np.array(lows)
    for i, each in enumerate(found.estimates.values()):
        assert each.low is not None and each.high is not None
        assert each.shrunk == pytest.approx(float(weight @ centre[:, i]), abs=3e-5)
        below = float(weight @ student.cdf((each.low - centre[:, i]) / scale[:, i], nu))
        above = float(weight @ student.sf((each.high - centre[:, i]) / scale[:, i], nu))
        assert below == pytest.approx(0.025, abs=1e-3) and above == pytest.approx(0.025, abs=1e-3)


def test_fewer_seeds_are_drawn_further_and_known_less() -> None:
    rows = noisy(2, 10, 6)
    short = {**rows, 0: {s: v for s, v in rows[0].items() if s in ("0", "1")}}
    whole, part = shrink(rows).estimates[0], shrink(short).estimates[0]
    assert (
        part.n == 2 and whole.error is not None and part.error is not None and part.error > 1.3 * whole.error
    )


def test_a_lucky_seed_is_not_taken_for_a_good_configuration() -> None:
    rows: Rows = {c: {"1": 0.50, "2": 0.60, "3": 0.55} for c in range(5)}
    rows = {c: {s: v + 0.001 * ((c * int(s)) % 3) for s, v in row.items()} for c, row in rows.items()}
    rows[9] = {"2": 0.603}  # the easy seed alone: the mean says 60 %
    found = shrink(rows).estimates
    assert found[9].mean == pytest.approx(0.603) and found[9].shrunk == pytest.approx(0.553, abs=0.002)


@pytest.mark.parametrize("rows", [{}, {0: {"1": 0.5}}, {0: {"1": 0.5, "2": 0.7}}, {0: {"1": 0.5}, 1: {}}])
def test_one_configuration_keeps_its_mean(rows: Rows) -> None:
    found = shrink(rows)
    assert found.reason == "one configuration" and (found.noise, found.spread) == (None, None)
    assert all(e.shrunk == e.mean and e.best is None for e in found.estimates.values())
    assert len(found.estimates) == sum(map(bool, rows.values()))


def test_one_seed_shrinks_nothing_unless_the_noise_is_known_from_elsewhere() -> None:
    rows = {c: {"1": 0.5 + 0.01 * c} for c in range(5)}
    alone = shrink(rows)
    assert alone.reason == "one seed" and alone.estimates[4].shrunk == rows[4]["1"]
    assert alone.estimates[4].error is None and alone.estimates[4].best is None
    told = shrink(rows, noise=ResidualNoise(s=0.03, nu=40))
    assert told.reason is None and told.estimates[4].shrunk < 0.53 and told.estimates[4].best is not None
    sure = shrink(rows, noise=ResidualNoise(s=0.0005, nu=40))
    assert sure.estimates[4].shrunk == pytest.approx(rows[4]["1"], abs=2e-4) and sure.estimates[4].best == 1


def test_without_noise_the_highest_mean_is_the_best_and_equal_ones_share_it() -> None:
    rows = {c: {s: 0.5 + 0.01 * min(c, 2) + int(s) / 100 for s in "123"} for c in range(4)}
    found = shrink(rows)
    assert found.reason == "no noise"
    assert [e.best for e in found.estimates.values()] == [0.0, 0.0, 0.5, 0.5]
    assert all(e.error == 0 and e.low == e.mean == e.high for e in found.estimates.values())


def test_the_same_table_gives_the_same_numbers_and_another_unit_scales_them() -> None:
    rows = noisy(8, 9, 3)
    assert shrink(rows) == shrink(rows)
    scaled = shrink({c: {s: 100 * v for s, v in row.items()} for c, row in rows.items()})
    for one, other in zip(shrink(rows).estimates.values(), scaled.estimates.values(), strict=True):
        assert 100 * one.shrunk == pytest.approx(other.shrunk) and one.best == pytest.approx(
            other.best, abs=1e-3
        )


def test_many_configurations_are_estimated_in_bounded_memory() -> None:
    found = shrink(noisy(1, 2000, 3, spread=1.0))
    assert len(found.estimates) == 2000 and found.spread == pytest.approx(1.0, abs=0.1)
    assert sum(e.best or 0 for e in found.estimates.values()) == pytest.approx(1)
