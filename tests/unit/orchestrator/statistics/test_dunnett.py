"""Dunnett's one-sided quantile against scipy, Student's t and printed tables."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_t

from orchestrator.statistics.dunnett import cdf, quantile
from orchestrator.statistics.studentized_range import quantile as tukey
from orchestrator.statistics.summary import student_quantile


@pytest.mark.parametrize(("k", "nu"), [(2, 5), (3, 10), (5, 20), (10, 60)])
def test_quantile_is_the_one_in_printed_tables(k: int, nu: int) -> None:
    printed = {(2, 5): 2.02, (3, 10): 2.15, (5, 20): 2.30, (10, 60): 2.48}  # Dunnett 1955, table 1a
    assert quantile(0.95, k, nu) == pytest.approx(printed[k, nu], abs=6e-3)


@pytest.mark.parametrize(("k", "nu"), [(4, 2), (8, 14)])
def test_cdf_agrees_with_scipys_multivariate_t(k: int, nu: int) -> None:
    d = quantile(0.95, k, nu)
    shape = (np.eye(k - 1) + 1) / 2
    found = multivariate_t(shape=shape, df=nu, seed=1).cdf(np.full(k - 1, d), maxpts=200_000 * k)
    assert float(found) == pytest.approx(0.95, abs=5e-4) and cdf(d, k, nu) == pytest.approx(0.95, abs=1e-9)


@pytest.mark.parametrize("nu", [1, 4, 100])
def test_two_means_are_students_t(nu: int) -> None:
    assert quantile(0.95, 2, nu) == pytest.approx(student_quantile(0.95, nu), rel=1e-8)


@pytest.mark.parametrize("k", [2, 5, 50, 1000])
def test_it_asks_for_less_than_tukeys_test(k: int) -> None:
    assert quantile(0.95, k, 2 * (k - 1)) * 2**0.5 < tukey(0.95, k, 2 * (k - 1))


def test_at_no_lead_each_row_is_the_best_as_often() -> None:
    assert cdf(0.0, 5, 8) == pytest.approx(1 / 5, abs=1e-9)
