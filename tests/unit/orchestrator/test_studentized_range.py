"""The studentized range against scipy, far into its tails and sizes."""

from __future__ import annotations

import pytest
from scipy.stats import studentized_range

from orchestrator.statistics.studentized_range import cdf, quantile
from orchestrator.statistics.summary import student_quantile


@pytest.mark.parametrize("k", [2, 3, 5, 12, 50, 1000])
@pytest.mark.parametrize("blocks", [2, 3, 10])
def test_quantile_agrees_with_scipy(k: int, blocks: int) -> None:
    nu = (k - 1) * (blocks - 1)
    assert quantile(0.95, k, nu) == pytest.approx(float(studentized_range.ppf(0.95, k, nu)), rel=1e-6)


@pytest.mark.parametrize(("k", "nu"), [(3, 10), (10, 20), (20, 60)])
def test_quantile_is_the_one_in_printed_tables(k: int, nu: int) -> None:
    printed = {(3, 10): 3.877, (10, 20): 5.008, (20, 60): 5.241}
    assert quantile(0.95, k, nu) == pytest.approx(printed[k, nu], abs=6e-4)


@pytest.mark.parametrize("nu", [1, 2, 9, 400])
@pytest.mark.parametrize("probability", [0.5, 0.95, 0.999])
def test_two_means_are_students_t(nu: int, probability: float) -> None:
    expected = 2**0.5 * student_quantile(0.5 + probability / 2, nu)
    assert quantile(probability, 2, nu) == pytest.approx(expected, rel=1e-8)


def test_cdf_grows_with_the_range_and_falls_with_the_number_of_means() -> None:
    values = [cdf(q, 5, 8) for q in (-1.0, 0.0, 0.5, 2.0, 5.0, 50.0)]
    assert values == sorted(values) and values[1] == 0 and values[-1] == pytest.approx(1, abs=1e-6)
    assert cdf(4.0, 5, 8) > cdf(4.0, 20, 38)
