"""Statistics of replicates against scipy, and that a missing replicate never raises a mean."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import stdtrit

from orchestrator.statistics.summary import (
    delta_m,
    objective,
    paired_difference,
    seed_means,
    student_cdf,
    student_quantile,
    summarize,
    worst_task_gain,
)

fractions = st.floats(0, 1, allow_nan=False)


@settings(deadline=None)
@given(st.floats(0.5, 0.9999), st.integers(1, 60))
def test_student_quantile_agrees_with_scipy(probability: float, df: int) -> None:
    assert student_quantile(probability, df) == pytest.approx(
        float(stdtrit(df, probability)), rel=1e-9, abs=1e-12
    )


@settings(deadline=None)
@given(st.floats(0, 5), st.integers(1, 40))
def test_student_cdf_grows_to_one(t: float, df: int) -> None:
    assert 0.5 <= student_cdf(t, df) <= student_cdf(t + 1, df) <= 1


def test_summary_of_three_seeds() -> None:
    summary = summarize([0.40, 0.42, 0.47])
    assert summary.mean == pytest.approx(0.43)
    assert summary.std == pytest.approx(0.0360555, rel=1e-5)
    assert summary.n == 3
    assert summary.high is not None and summary.high - 0.43 == pytest.approx(
        4.302653 * 0.0360555 / math.sqrt(3)
    )


def test_one_seed_has_no_spread() -> None:
    summary = summarize([0.5])
    assert (summary.mean, summary.std, summary.low, summary.n) == (0.5, None, None, 1)


@settings(deadline=None)
@given(st.dictionaries(st.tuples(st.sampled_from(["3", "6"]), st.integers(1, 5)), fractions, min_size=1))
def test_seed_means_cover_the_same_splits(values: dict[tuple[str, int], float]) -> None:
    splits = {split for split, _ in values}
    means = seed_means(values)
    assert all((split, seed) in values for seed in means for split in splits)
    assert all(0 <= mean <= 1 for mean in means.values())


@settings(deadline=None)
@given(st.lists(fractions, min_size=2, max_size=6), st.data())
def test_a_missing_or_failed_replicate_leaves_no_objective(
    accuracies: list[float], data: st.DataObject
) -> None:
    values: dict[tuple[str, int], float | None] = {("3", i): v for i, v in enumerate(accuracies)}
    assert objective(values) == pytest.approx(sum(accuracies) / len(accuracies))
    lost = data.draw(st.integers(0, len(accuracies) - 1))
    values["3", lost] = data.draw(st.sampled_from([None, math.nan]))
    assert objective(values) is None


def test_objective_weighs_splits_equally() -> None:
    assert objective({("3", 1): 0.2, ("3", 2): 0.4, ("6", 1): 0.6}) == pytest.approx(0.45)
    assert objective({}) is None


def test_differences_are_paired_by_seed() -> None:
    best = {1: 0.50, 2: 0.60, 3: 0.70}
    difference = paired_difference({s: v - 0.05 - 0.001 * s for s, v in best.items()}, best)
    assert difference is not None and difference.high is not None and difference.high < 0
    alone = paired_difference({1: 0.1, 2: 0.3}, {1: 0.9})
    assert alone is not None and (alone.n, alone.low, alone.high) == (1, None, None)
    assert paired_difference({1: 0.1}, {2: 0.9}) is None


def test_gains_over_a_reference() -> None:
    tasks, reference = {"clipart": 0.5, "sketch": 0.2}, {"clipart": 0.4, "sketch": 0.25}
    assert delta_m(tasks, reference) == pytest.approx((25 - 20) / 2)
    assert worst_task_gain(tasks, reference) == ("sketch", pytest.approx(-0.05))
