"""The residual of the additive model, of complete and of incomplete tables."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from scipy.stats import chi2

from orchestrator.statistics.cochran import PooledResidual
from orchestrator.statistics.noise import ResidualNoise, combined, pooled_noise


def table(rng: random.Random, k: int, n: int, missing: float = 0.0) -> dict[int, dict[str, float]]:
    """Values by configuration and seed."""
    seeds = {str(s): rng.gauss(0, 0.03) for s in range(n)}
    return {
        c: {s: 0.5 + level + rng.gauss(0, 0.01) for s, level in seeds.items() if rng.random() >= missing}
        for c in range(k)
    }


def test_a_complete_table_gives_the_residual_of_the_marks() -> None:
    rows = table(random.Random(1), 7, 4)
    found = pooled_noise(rows)
    assert found is not None and found.nu == 18
    assert found.s == pytest.approx(
        PooledResidual([list(row.values()) for row in rows.values()]).deviation(3)
    )


@pytest.mark.parametrize("seed", range(5))
def test_an_incomplete_table_gives_the_residual_of_least_squares(seed: int) -> None:
    rows = {c: row for c, row in table(random.Random(seed), 6, 4, missing=0.4).items() if row}
    names, seeds = list(rows), sorted({s for row in rows.values() for s in row})
    cells = [(c, s) for c in names for s in rows[c]]
    design = np.array([[c == x for x in names] + [s == x for x in seeds] for c, s in cells], dtype=float)
    y = np.array([rows[c][s] for c, s in cells])
    fitted, _, rank, _ = np.linalg.lstsq(design, y, rcond=None)
    found, nu = pooled_noise(rows), len(y) - int(rank)
    assert found is not None and found.nu == nu
    assert found.s == pytest.approx(math.sqrt(float(((y - design @ fitted) ** 2).sum()) / nu), rel=1e-9)


@pytest.mark.parametrize(
    "rows",
    [
        {},
        {0: {"1": 0.5}},
        {0: {"1": 0.5, "2": 0.6}},
        {0: {"1": 0.5}, 1: {"1": 0.6}},
        {0: {"1": 0.5}, 1: {"2": 0.6}},
    ],
)
def test_without_a_degree_of_freedom_there_is_no_noise(rows: dict[int, dict[str, float]]) -> None:
    assert pooled_noise(rows) is None


def test_tables_without_a_common_seed_are_pooled_as_they_are() -> None:
    rng = random.Random(5)
    first, second = table(rng, 3, 3), table(rng, 4, 2)
    together = {("a", c): {("a", s): v for s, v in row.items()} for c, row in first.items()}
    together |= {("b", c): {("b", s): v for s, v in row.items()} for c, row in second.items()}
    apart = combined(filter(None, (pooled_noise(first), pooled_noise(second))))
    found = pooled_noise(together)
    assert found is not None and apart is not None and found.nu == apart.nu == 4 + 3
    assert found.s == pytest.approx(apart.s)
    assert combined([]) is None


def test_upper_limit_is_chi_squares_and_holds_as_often_as_it_says() -> None:
    noise = ResidualNoise(s=0.012, nu=7)
    assert noise.upper(0.8) == pytest.approx(0.012 * math.sqrt(7 / float(chi2.ppf(0.2, 7))))
    rng = np.random.default_rng(3)
    estimates = np.sqrt(rng.chisquare(7, size=4000) / 7)
    held = np.mean([ResidualNoise(s=float(s), nu=7).upper(0.8) >= 1 for s in estimates])
    assert 0.77 < held < 0.83
