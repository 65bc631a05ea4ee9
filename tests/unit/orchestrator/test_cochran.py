"""Rows that are too unsteady to be pooled."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betainc

from orchestrator.statistics.cochran import PooledResidual, incomplete_beta, outliers

LEVEL = 0.01


def rows(rng: random.Random, deviations: list[float], blocks: int = 3) -> list[list[float]]:
    seeds = [rng.gauss(0, 0.05) for _ in range(blocks)]
    return [[0.5 + 0.02 * i + s + rng.gauss(0, d) for s in seeds] for i, d in enumerate(deviations)]


@settings(deadline=None)
@given(st.floats(0, 1), st.integers(1, 400), st.integers(1, 20))
def test_incomplete_beta_agrees_with_scipy(x: float, a: int, b: int) -> None:
    assert incomplete_beta(x, a / 2, b / 2) == pytest.approx(float(betainc(a / 2, b / 2, x)), abs=1e-10)


@given(st.permutations(range(5)), st.integers(0, 100))
def test_squares_are_those_of_the_additive_model_in_any_order(order: list[int], seed: int) -> None:
    values = rows(random.Random(seed), [0.01, 0.01, 0.02, 0.05, 0.01], blocks=4)
    means = [sum(row) / 4 for row in values]
    blocks = [sum(row[b] for row in values) / 5 for b in range(4)]
    grand = sum(means) / 5
    expected = sum((values[i][b] - means[i] - blocks[b] + grand) ** 2 for i in range(5) for b in range(4))
    assert PooledResidual(values[i] for i in order).squares == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("blocks", [3, 4])
def test_equal_variances_are_told_apart_as_rarely_as_the_level_says(blocks: int) -> None:
    rng = random.Random(5)
    found = sum(bool(outliers(rows(rng, [0.01] * 9, blocks), 0.05)) for _ in range(1000))
    assert 25 <= found <= 90


@pytest.mark.parametrize("unsteady", [{0}, {3, 7}, {1, 2, 5, 9}, {0, 2, 4, 6, 10}])
def test_several_unsteady_rows_do_not_hide_one_another(unsteady: set[int]) -> None:
    rng = random.Random(3)
    deviations = [1.0 if i in unsteady else 0.001 for i in range(12)]
    assert outliers(rows(rng, deviations), LEVEL) == unsteady


def test_few_rows_or_blocks_have_no_outliers() -> None:
    assert outliers([], LEVEL) == set()
    assert outliers([[0.1, 0.9], [0.9, 0.1]], LEVEL) == set()
    assert outliers([[0.1], [0.2], [0.9]], LEVEL) == set()
    assert outliers([[0.5, 0.5, 0.5]] * 6, LEVEL) == set()


def test_no_row_is_judged_by_rows_without_any_variance() -> None:
    assert outliers([[0.6, 0.61], [0.2, 0.21], [0.61, 0.6]], LEVEL) == set()
