"""Seeds and the differences they show, against scipy's non-central t and against counting."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import nct, t, ttest_rel

from orchestrator.statistics.power import POWER, detectable, power, seeds_needed


@pytest.mark.parametrize("seeds", [2, 3, 10, 40])
@pytest.mark.parametrize("difference", [0.0, 0.5, 2.0])
def test_power_is_that_of_the_non_central_t(seeds: int, difference: float) -> None:
    critical, shift = float(t.ppf(0.975, seeds - 1)), difference * math.sqrt(seeds / 2)
    expected = nct.sf(critical, seeds - 1, shift) + nct.cdf(-critical, seeds - 1, shift)
    assert power(difference, 1.0, seeds) == pytest.approx(float(expected), abs=1e-7)


def test_differences_are_found_as_often_as_stated() -> None:
    rng = np.random.default_rng(1)
    y = rng.normal(0, 0.012, size=(4000, 2, 8)) + np.array([0.015, 0.0])[None, :, None]
    found = np.mean(ttest_rel(y[:, 0], y[:, 1], axis=1).pvalue < 0.05)
    assert abs(found - power(0.015, 0.012, 8)) < 0.03


def test_the_fewest_seeds_are_enough_and_one_less_is_not() -> None:
    for difference in (0.005, 0.01, 0.05):
        seeds = seeds_needed(difference, 0.012)
        assert seeds is not None and power(difference, 0.012, seeds) >= POWER
        assert seeds == 2 or power(difference, 0.012, seeds - 1) < POWER
    assert seeds_needed(0.01, 0.012) in range(23, 28), "one point where the residual is 1.2 points"


def test_edges_of_the_number_of_seeds() -> None:
    assert seeds_needed(0.01, 0.0) == 2 and seeds_needed(1.0, 1e-6) == 2
    assert seeds_needed(1e-6, 1.0) is None


@pytest.mark.parametrize("seeds", [2, 5, 25])
def test_the_detectable_difference_has_the_power_wanted(seeds: int) -> None:
    assert power(detectable(0.012, seeds), 0.012, seeds) == pytest.approx(POWER, abs=1e-6)
