"""Which trials are stopped at rungs over seeds and epochs, from made-up values."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest

from orchestrator.search.stop_rule import StopRule
from orchestrator.statistics.noise import pooled_noise
from orchestrator.statistics.summary import student_quantile

NOISE = ((0.01, -0.01, 0.0), (0.0, 0.01, -0.01), (-0.01, 0.0, 0.01))


def rule(**options: object) -> StopRule:
    given = {"seeds": 3, "epochs": 5, "rungs": (3,), "stages": (1, 3), "factor": 3, "chance": 0.2}
    return StopRule(**{**given, **options})  # type: ignore[arg-type]


def complete(rule: StopRule, *levels: float) -> None:
    """Trials with all seeds, about these levels, with the residual of ``NOISE``."""
    for number, level in enumerate(levels):
        values = [level + e for e in NOISE[number % 3]]
        for epoch in (*rule.rungs, rule.epochs):
            rule.take(number, epoch, values)
        rule.complete(values)


def judged(rule: StopRule, number: int, epoch: int, values: Sequence[float]) -> bool:
    """Whether a trial is stopped."""
    rule.take(number, epoch, values)
    return rule.judge(epoch, values) is not None


def test_nothing_is_stopped_before_two_trials_with_all_seeds_are_known() -> None:
    stopping = rule()
    complete(stopping, 0.9)
    assert not stopping.can_stop and stopping.first_stage() == 3
    assert not judged(stopping, 7, 5, [0.1]) and not judged(stopping, 8, 3, [0.1])
    complete(stopping, 0.9, 0.8)
    assert stopping.can_stop and stopping.first_stage() == 1


def test_a_trial_goes_on_to_further_seeds_exactly_while_it_may_become_the_best() -> None:
    stopping = rule()
    complete(stopping, 0.60, 0.55, 0.50)
    table = {n: dict(enumerate(level + e for e in NOISE[n])) for n, level in enumerate((0.60, 0.55, 0.50))}
    noise = pooled_noise(table)
    assert noise is not None and noise.nu == 4
    allowed = student_quantile(0.8, 4) * noise.s * math.sqrt(2 * 2 / 3)
    best_at_first_seed = 0.61
    assert not judged(stopping, 10, 5, [best_at_first_seed - allowed + 1e-6])
    found = stopping.judge(5, [best_at_first_seed - allowed - 1e-6])
    assert found is not None and (found.seeds, found.epoch) == (1, 5)
    assert found.bar == pytest.approx(best_at_first_seed) and found.allowed == pytest.approx(allowed)


def test_one_seed_is_compared_with_the_same_seed_of_the_best_not_with_its_mean() -> None:
    stopping = rule()
    stopping.take(0, 5, [0.40, 0.70, 0.70])  # the best has a bad first seed
    stopping.complete([0.40, 0.70, 0.70])
    stopping.take(1, 5, [0.30, 0.61, 0.59])
    assert not judged(stopping, 2, 5, [0.395])


def test_a_rung_over_epochs_stops_what_is_below_the_cut_by_more_than_noise() -> None:
    stopping = rule(stages=(3,))
    complete(stopping, 0.60, 0.58, 0.56, 0.54, 0.52, 0.50)
    level = sorted((0.60, 0.58, 0.56, 0.54, 0.52, 0.50, 0.40), reverse=True)[math.ceil(7 / 3) - 1]
    assert judged(stopping, 6, 3, [0.40, 0.40, 0.40])
    found = stopping.judge(3, [0.40, 0.40, 0.40])
    assert found is not None and found.bar == pytest.approx(level)
    assert not judged(stopping, 7, 3, [level - found.allowed + 1e-3] * 3)
    assert not judged(stopping, 8, 4, [0.1] * 3), "no rung"
    assert not judged(stopping, 9, 5, [0.1] * 3), "complete"


def test_with_a_single_seed_the_cut_alone_decides_once_there_are_enough_trials() -> None:
    stopping = rule(seeds=1, stages=(1,))
    stopped = [judged(stopping, n, 3, [v]) for n, v in enumerate((0.9, 0.8, 0.7, 0.6, 0.95))]
    assert stopped == [False, False, False, True, False]


def test_what_it_knows_does_not_depend_on_the_order_of_trials() -> None:
    generator = random.Random(1)
    trials = [
        (n, e, [generator.random() for _ in range(m)]) for n in range(9) for m in (1, 3) for e in (3, 5)
    ]
    one, other = rule(), rule()
    for told, order in ((one, trials), (other, sorted(trials, key=lambda t: (t[2], t[0])))):
        for number, epoch, values in order:
            told.take(number, epoch, values)
            if epoch == 5 and len(values) == 3:
                told.complete(values)
    for value in (0.0, 0.1, 0.2, 0.3, 0.5, 0.7):
        assert (one.judge(5, [value]) is None) == (other.judge(5, [value]) is None)
        assert one.judge(3, [value] * 3) == other.judge(3, [value] * 3)


def test_trials_that_share_their_cells_are_one_measurement_of_noise() -> None:
    stopping = rule()
    for number in range(4):
        stopping.take(number, 5, [0.60, 0.61, 0.59])
    assert not stopping.can_stop


def test_a_value_that_is_no_number_neither_counts_nor_stops() -> None:
    stopping = rule()
    complete(stopping, 0.6, 0.5)
    stopping.take(5, 3, [math.nan])
    assert stopping.judge(3, [math.nan]) is None and stopping.judge(5, [math.nan]) is None


def test_the_best_survives_its_first_seed_about_as_often_as_the_chance_says() -> None:
    """Of trials that would come out ahead of the best, few are stopped after one seed."""
    generator = random.Random(5)
    stopped = ahead = 0
    for _ in range(2000):
        stopping = rule(rungs=())
        for number in range(8):
            values = [generator.gauss(0, 1) + level for level in [generator.gauss(0, 2)] * 3]
            stopping.take(number, 5, values)
            stopping.complete(values)
        best = stopping._best
        assert best is not None
        values = [generator.gauss(0, 1) + level for level in [generator.gauss(0, 2) + 2] * 3]
        if math.fsum(values) / 3 > best[0]:
            ahead += 1
            stopped += stopping.judge(5, values[:1]) is not None
    assert ahead > 250 and stopped / ahead < 0.2
