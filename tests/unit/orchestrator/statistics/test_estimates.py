"""What is estimated of the complete trials of a ranking."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator.statistics.estimates import estimate_rows
from orchestrator.statistics.ranking import MeasuredRow, significance

Rank = Callable[..., list[MeasuredRow]]

ROWS = ([0.60, 0.62, 0.61], [0.59, 0.60, 0.61], [0.55, 0.56, 0.56], [0.58, 0.58, 0.60])


def test_trials_are_drawn_together_over_their_seeds(rank: Rank) -> None:
    rows = rank(*ROWS)
    found = estimate_rows(rows, significance(rows))
    assert list(found.estimates) == [0, 1, 3, 2] and found.noise is not None and found.noise.nu == 6
    assert found.estimates[0].shrunk < found.estimates[0].mean and found.estimates[2].shrunk > ROWS[2][0]


def test_trials_of_the_same_cells_are_one_configuration(rank: Rank) -> None:
    rows = rank(*ROWS, ROWS[0], cells=["a", "b", "c", "d", "a"])
    found = estimate_rows(rows, significance(rows))
    alone = rank(*ROWS)
    expected = estimate_rows(alone, significance(alone))
    assert found.estimates[4] == found.estimates[0] == expected.estimates[0]


def test_a_trial_of_outlying_variance_has_no_estimate_and_disturbs_no_other(rank: Rank) -> None:
    steady = [[0.6 + 0.001 * i, 0.601 - 0.001 * (i % 3), 0.599 + 0.0005 * i] for i in range(8)]
    rows = rank(*steady, [0.1, 0.4, 0.8])
    found = estimate_rows(rows, significance(rows))
    assert set(found.estimates) == set(range(8)) and found.noise is not None and found.noise.s < 0.01
    assert sum(each.best or 0 for each in found.estimates.values()) == pytest.approx(1)
