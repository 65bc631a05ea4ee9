"""The self-test of races: what it makes, what it finds, and that a bound of it can fail."""

from __future__ import annotations

import random

from orchestrator.statistics.selftest.checks import Setting
from orchestrator.statistics.selftest.registry import get_suite, names
from orchestrator.statistics.selftest.suites import race
from orchestrator.statistics.selftest.suites.race import AHEAD, race_once


def test_a_finalist_far_ahead_is_left_alone_with_fewer_cells_than_a_uniform_design() -> None:
    raced = race_once([2 * AHEAD, 0, 0, 0, 0], 10, Setting(repeats=1), random.Random(1))
    assert raced.race.standing == (0,) and raced.race.cells < 25 and not raced.best_fell


def test_equal_finalists_spend_the_budget_of_a_uniform_design() -> None:
    raced = race_once([0.0] * 3, 10, Setting(repeats=1), random.Random(4))
    assert raced.race.end == "budget" and raced.race.cells == 30
    assert raced.low is not None and raced.high is not None and raced.low < raced.high


def test_all_that_is_stated_of_races_is_tried() -> None:
    assert "race" in names()
    checks = list(get_suite("race").run(Setting(repeats=20, seed=3)))
    measures = [check.measure for check in checks]
    assert measures.count("the best falls") == 4 and "the interval of the optimism holds 0" in measures
    assert all(check.reached <= 0.1 for check in checks if check.measure == "the best falls")


class CalmSearch:
    """Varies five times as much on fresh seeds as it did in the search, which no race can know."""

    def residuals(self, rng: random.Random, configurations: int, blocks: int) -> list[list[float]]:
        spread = 0.2 if blocks == 3 else 1.0
        return [[rng.gauss(0, spread) for _ in range(blocks)] for _ in range(configurations)]


def test_noise_that_the_search_did_not_show_breaks_the_bound() -> None:
    (check,) = race._equal(5, 10, Setting(repeats=60, seed=2, noise=CalmSearch()))
    assert not check.holds and check.reached > 0.07
