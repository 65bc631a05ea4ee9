"""Who is on the front, how likely, and who goes on."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from mmap_model.errors import InputError
from orchestrator.ledger import TrialRecord
from orchestrator.statistics.front_odds import on_front
from orchestrator.statistics.objectives import Aim
from orchestrator.statistics.pareto import weigh
from orchestrator.statistics.selftest.checks import Setting
from orchestrator.statistics.selftest.suites.pareto import calibration_error, run
from orchestrator.statistics.shrinkage import shrink

AIM = Aim.of(["accuracy", "-parameters"])


def study(*trials: tuple[list[float], int]) -> tuple[list[TrialRecord], dict[str, Any]]:
    """Trials of accuracies by seed and a size, and the records of their cells."""
    found, records = [], {}
    for number, (accuracies, size) in enumerate(trials):
        cells = []
        for seed, accuracy in enumerate(accuracies):
            key = f"{number}-{seed}"
            cells.append({"key": key, "split": "3-shot", "seed": str(seed)})
            records[key] = {"metrics": {"accuracy": accuracy, "nll": 1 - accuracy}}
        found.append(
            TrialRecord(number=number, state="complete", cells=cells, parameters=size, created_at="")
        )
    return found, records


SPREAD = study(
    ([0.60, 0.62, 0.61], 8000),
    ([0.58, 0.59, 0.60], 2000),
    ([0.30, 0.32, 0.31], 1000),
    ([0.20, 0.21, 0.22], 9000),
)


def test_a_point_is_on_the_front_unless_another_is_no_worse_in_all_and_better_in_one() -> None:
    points = np.array([[[1.0, 1.0], [1.0, 1.0], [2.0, 0.5], [1.0, 0.9], [0.5, 0.5]]])
    assert on_front(points).tolist() == [[True, True, True, False, False]]


def test_the_front_agrees_with_one_that_compares_every_pair() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 4, size=(50, 9, 3)).astype(float)
    found = on_front(values)
    for draw, there in zip(values, found, strict=True):
        for i, own in enumerate(draw):
            beaten = any((other >= own).all() and (other > own).any() for other in draw)
            assert there[i] == (not beaten)


def test_probabilities_tell_sure_members_from_sure_others_and_are_the_same_each_time() -> None:
    found = weigh(*SPREAD, AIM)
    assert found.front.measured == (0, 1, 2)
    probability = found.front.probability
    assert probability[3] < 0.01 and min(probability[n] for n in (1, 2)) > 0.95
    assert found.to_dict() == weigh(*SPREAD, AIM).to_dict()


def test_an_exact_count_carries_no_noise() -> None:
    """The smallest is on the front for certain, however noisy its accuracy is."""
    trials, records = study(([0.1, 0.5, 0.3], 100), ([0.6, 0.2, 0.4], 200), ([0.5, 0.3, 0.1], 300))
    found = weigh(trials, records, AIM).front
    assert found.probability[0] == 1.0 and found.noisy == ("accuracy",)
    assert 0 < found.probability[2] < 0.6


def test_with_equal_sizes_the_front_is_the_best_and_agrees_with_the_ranking() -> None:
    rng = random.Random(3)
    rows = {n: {str(s): 0.5 + 0.004 * n + rng.gauss(0, 0.01) for s in range(3)} for n in range(6)}
    trials, records = study(*((list(row.values()), 500) for row in rows.values()))
    probability = weigh(trials, records, AIM).front.probability
    expected = shrink(rows).estimates
    assert sum(probability.values()) == pytest.approx(1.0)
    for number, estimate in expected.items():
        assert probability[number] == pytest.approx(estimate.best, abs=0.03)


def test_two_measures_of_the_same_thing_are_one_thing() -> None:
    """nll is 1 − accuracy here, noise included: the front is about as small as with accuracy alone."""
    rng = random.Random(5)
    trials, records = study(*(([0.5 + rng.gauss(0, 0.02) for _ in range(4)], 500) for _ in range(8)))
    one = weigh(trials, records, AIM).front.probability
    both = weigh(trials, records, Aim.of(["accuracy", "nll"])).front.probability
    assert sum(both.values()) < 1.6 * sum(one.values())


@pytest.mark.parametrize(
    ("rule", "trial"),
    [
        (None, 0),
        ("accuracy", 0),
        ("-parameters", 2),
        ("knee", 1),
        ("parameters<=3000", 1),
        ("accuracy>=0.605", 0),
    ],
)
def test_a_rule_says_who_goes_on(rule: str | None, trial: int) -> None:
    choice = weigh(*SPREAD, AIM, rule).choice
    assert choice is not None and choice.trial == trial


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("kneee", "'knee'"),
        ("ece", "unknown rule"),
        ("parameters<=10", "the nearest has parameters 1000"),
        ("size<=10", "known"),
    ],
)
def test_a_rule_that_nothing_meets_or_that_is_none_is_refused(rule: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        weigh(*SPREAD, AIM, rule)
    assert caught.value.where == "--prefer" and words in str(caught.value)


def test_what_violates_a_constraint_is_named_and_never_chosen() -> None:
    found = weigh(*SPREAD, Aim.of(["accuracy", "-parameters"], ["parameters<=5000", "accuracy>=0.35"]))
    assert [each.name for each in found.candidates] == [1]
    assert found.violated == {
        0: ["parameters<=5000"],
        2: ["accuracy>=0.35"],
        3: ["parameters<=5000", "accuracy>=0.35"],
    }
    assert found.choice is not None and found.choice.trial == 1
    none = weigh(*SPREAD, Aim.of(["accuracy", "-parameters"], ["parameters<=5"]))
    assert none.choice is None and not none.candidates


def test_trials_that_cannot_be_compared_are_named() -> None:
    trials, records = study(([0.5, 0.6], 10), ([0.4, 0.5], 5), ([0.4, 0.7], 3), ([0.4], 1), ([0.9, 0.9], 4))
    del records["4-1"]
    trials[2].cells = trials[1].cells
    found = weigh(trials, records, AIM)
    assert found.unmeasured == (4,) and found.same == {2: 1} and found.front.incomplete == (3,)


def test_one_seed_tells_no_probability() -> None:
    found = weigh(*study(([0.5], 10), ([0.4], 5)), AIM)
    assert found.front.reason == "one seed" and not found.front.probability
    assert found.front.measured == (0, 1)


def test_the_calibration_error_is_the_mean_miss_over_bins() -> None:
    assert calibration_error([0.05] * 10, [True] + [False] * 9) == pytest.approx(0.05)
    assert calibration_error([1.0, 1.0, 0.0, 0.0], [True, True, False, False]) == 0.0
    assert calibration_error([0.9] * 4, [False] * 4) == pytest.approx(0.9)


def test_stated_probabilities_are_about_right_in_a_short_selftest() -> None:
    checks = list(run(Setting(repeats=20)))
    assert len(checks) == 6
    assert max(check.reached for check in checks) < 0.09, "a longer one is held to 0.05"
