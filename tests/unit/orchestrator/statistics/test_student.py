"""Student's t of arrays against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t as student

from orchestrator.statistics.student import CLOSED, cdf, density


@pytest.mark.parametrize("df", [1, 2, 3, 8, 57, CLOSED, CLOSED + 1, 998, 20_000])
def test_it_agrees_with_scipy_far_into_both_tails(df: int) -> None:
    t = np.concatenate([np.linspace(-9, 9, 101), [0.0, -60.0, 60.0]])
    assert cdf(t, df) == pytest.approx(student.cdf(t, df), abs=2e-9)
    assert density(t, df) == pytest.approx(student.pdf(t, df), rel=1e-8, abs=1e-12)
