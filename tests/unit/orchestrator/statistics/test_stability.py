"""The first of a ranking without each of the seeds."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.statistics.ranking import MeasuredRow
from orchestrator.statistics.stability import Stability, stability

Rank = Callable[..., list[MeasuredRow]]


def hangs_on(found: Stability) -> list[str]:
    """The seeds without which another trial would be first."""
    return [seed for seed, first in found.without.items() if first != found.winner]


def test_a_winner_of_one_lucky_seed_is_found_out(rank: Rank) -> None:
    found = stability(rank([0.50, 0.51, 0.70], [0.55, 0.55, 0.55], [0.2, 0.2, 0.2]))
    assert found is not None and found.winner == 0
    assert found.without == {"1": 0, "2": 0, "3": 1} and hangs_on(found) == ["3"]
    assert found.to_dict() == {"winner": 0, "without": {"1": 0, "2": 0, "3": 1}}


def test_a_winner_on_every_seed_hangs_on_none(rank: Rank) -> None:
    found = stability(rank([0.50, 0.51, 0.50], [0.45, 0.45, 0.45]))
    assert found is not None and hangs_on(found) == []


def test_equal_means_keep_the_order_of_the_ranking(rank: Rank) -> None:
    found = stability(rank([0.5, 0.6], [0.5, 0.6]))
    assert found is not None and (found.winner, hangs_on(found)) == (0, [])


def test_one_trial_or_one_seed_can_hang_on_nothing(rank: Rank) -> None:
    assert stability(rank([0.5, 0.6])) is None and stability(rank([0.5], [0.4])) is None
    assert stability([]) is None
