"""Exact search equals brute force; ties, forbidden cases and task order behave as documented."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmap_model.configuration import canonical_partition
from mmap_model.errors import ConfigurationError
from mmap_model.grouping import large, subsets
from mmap_model.grouping.partition import (
    GroupWeights,
    best_partition,
    restricted_growth_strings,
    score_partition,
)

OBJECTIVES = ("tag_mean", "sum", "sum_centered")
BELL = [1, 2, 5, 15, 52, 203, 877, 4140]


def symmetric(values, tasks):
    matrix = np.zeros((tasks, tasks))
    matrix[np.triu_indices(tasks, 1)] = values
    return matrix + matrix.T


@st.composite
def similarities(draw, least=2, most=7, integers=False):
    tasks = draw(st.integers(least, most))
    element = st.integers(-2, 2).map(float) if integers else st.floats(-1, 1, allow_subnormal=False)
    pairs = tasks * (tasks - 1) // 2
    return symmetric(draw(st.lists(element, min_size=pairs, max_size=pairs)), tasks)


def partitions(tasks):
    """All set partitions, by plain recursion."""
    if tasks == 0:
        yield []
        return
    for smaller in partitions(tasks - 1):
        for number in range(len(smaller)):
            yield [[*g, tasks - 1] if n == number else g for n, g in enumerate(smaller)]
        yield [*smaller, [tasks - 1]]


def by_hand(matrix, partition, objective):
    """The objective straight from its definition."""
    off = matrix - (matrix[np.triu_indices(len(matrix), 1)].mean() if objective == "sum_centered" else 0)
    total = 0.0
    for group in partition:
        if objective == "tag_mean":
            if len(group) == 1:
                return -np.inf
            total += sum(np.mean([off[t, j] for j in group if j != t]) for t in group)
        else:
            total += sum(off[i, j] for i, j in combinations(group, 2))
    return total


def brute_force(matrix, objective, groups):
    scored = [
        (by_hand(matrix, p, objective), canonical_partition(p))
        for p in partitions(len(matrix))
        if groups is None or len(p) == groups
    ]
    return sorted((s for s in scored if s[0] > -np.inf), key=lambda s: -s[0])


def feasible(tasks, objective):
    most = tasks // 2 if objective == "tag_mean" else tasks
    return st.none() | st.integers(1, most)


@pytest.mark.parametrize("tasks", range(1, 9))
def test_restricted_growth_strings_are_all_partitions_in_order(tasks):
    strings = [tuple(s) for s in restricted_growth_strings(tasks).tolist()]
    assert len(set(strings)) == len(strings) == BELL[tasks - 1]
    assert strings == sorted(strings)


@settings(max_examples=60, deadline=None)
@given(st.data(), similarities(), st.sampled_from(OBJECTIVES))
def test_exact_search_equals_brute_force(data, matrix, objective):
    groups = data.draw(feasible(len(matrix), objective))
    ranked = brute_force(matrix, objective, groups)
    found = best_partition(matrix, objective, groups=groups)
    assert found.exact
    # Scores closer than the solver's tolerance for ties count as equal, whichever it takes.
    tie = 1e-9 * (1 + np.abs(matrix).sum())
    assert found.score == pytest.approx(ranked[0][0], abs=tie)
    assert by_hand(matrix, found.partition, objective) == pytest.approx(found.score, abs=1e-9)
    assert score_partition(matrix, found.partition, objective) == pytest.approx(found.score, abs=1e-9)
    if len(ranked) == 1:
        assert found.second is None and found.margin is None
    else:
        assert found.second != found.partition
        assert found.second_score == pytest.approx(ranked[1][0], abs=tie)
        assert found.margin == pytest.approx(ranked[0][0] - ranked[1][0], abs=2 * tie)


@settings(max_examples=60, deadline=None)
@given(st.data(), similarities(integers=True), st.sampled_from(OBJECTIVES))
def test_dynamic_programming_equals_enumeration_ties_included(data, matrix, objective):
    groups = data.draw(feasible(len(matrix), objective))
    expected = best_partition(matrix, objective, groups=groups)
    tolerance = 1e-9 * (1 + np.abs(matrix).sum())
    first, second = subsets.solve(GroupWeights(matrix, objective), len(matrix), groups, tolerance)
    assert first == expected.partition
    assert (second is None) == (expected.second is None)
    if second is not None:
        assert score_partition(matrix, second, objective) == pytest.approx(expected.second_score, abs=1e-6)
        assert second != first


def test_enumeration_and_dynamic_programming_break_this_tie_alike():
    matrix = np.zeros((7, 7))
    for i, j in [(0, 3), (1, 5), (2, 4), (2, 5), (3, 6), (4, 6)]:
        matrix[i, j] = matrix[j, i] = 1.0
    first, _ = subsets.solve(GroupWeights(matrix, "tag_mean"), 7, None, 1e-8)
    assert first == best_partition(matrix, "tag_mean").partition == ((0, 3, 6), (1, 5), (2, 4))


@settings(max_examples=30, deadline=None)
@given(st.data(), similarities(integers=True), st.sampled_from(OBJECTIVES))
def test_ties_go_to_fewer_groups_then_to_lower_tasks_in_the_first_groups(data, matrix, objective):
    groups = data.draw(feasible(len(matrix), objective))
    ranked = brute_force(matrix, objective, groups)
    tied = [p for score, p in ranked if score >= ranked[0][0] - 1e-9]
    found = best_partition(matrix, objective, groups=groups).partition

    def absent(partition):
        return [[task not in group for task in range(len(matrix))] for group in partition]

    assert found == min(tied, key=lambda p: (len(p), absent(p)))


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 7), st.integers(0, 2**32 - 1), st.randoms(), st.sampled_from(OBJECTIVES))
def test_result_does_not_depend_on_task_order(tasks, seed, random, objective):
    values = np.random.default_rng(seed).normal(size=tasks * (tasks - 1) // 2)
    matrix = symmetric(values, tasks)
    order = list(range(tasks))
    random.shuffle(order)
    shuffled = best_partition(matrix[np.ix_(order, order)], objective).partition
    renamed = canonical_partition([order[t] for t in group] for group in shuffled)
    assert renamed == best_partition(matrix, objective).partition


@settings(max_examples=60, deadline=None)
@given(similarities(least=4, most=4))
def test_tag_mean_makes_two_pairs_of_four_tasks(matrix):
    score = best_partition(matrix, "tag_mean").score
    pairings = [((0, 1), (2, 3)), ((0, 2), (1, 3)), ((0, 3), (1, 2))]
    assert score == pytest.approx(max(score_partition(matrix, p, "tag_mean") for p in pairings), abs=1e-9)


def test_tag_mean_may_prefer_two_triples_of_six_tasks():
    matrix = np.kron(np.eye(2), np.ones((3, 3)))
    assert best_partition(matrix, "tag_mean").partition == ((0, 1, 2), (3, 4, 5))


@settings(max_examples=60, deadline=None)
@given(similarities(least=4, most=7))
def test_tag_mean_needs_only_pairs_and_triples(matrix):
    ranked = brute_force(matrix, "tag_mean", None)
    small = [score for score, p in ranked if all(len(g) <= 3 for g in p)]
    assert max(small) == pytest.approx(ranked[0][0], abs=1e-9)


def test_sum_collapses_to_one_group_when_all_is_positive():
    matrix = np.ones((5, 5)) + symmetric(np.arange(10.0), 5)
    assert best_partition(matrix, "sum").partition == ((0, 1, 2, 3, 4),)
    assert len(best_partition(matrix, "sum_centered").partition) > 1


@pytest.mark.parametrize("tasks", [12, 20])
@pytest.mark.parametrize("objective", ["tag_mean", "sum_centered"])
def test_planted_pairs_are_found_beyond_enumeration(tasks, objective):
    rng = np.random.default_rng(tasks)
    order = rng.permutation(tasks)
    planted = canonical_partition([order[i : i + 2] for i in range(0, tasks, 2)])
    matrix = symmetric(rng.normal(0, 0.01, tasks * (tasks - 1) // 2), tasks)
    for a, b in planted:
        matrix[a, b] += 1
        matrix[b, a] += 1
    found = best_partition(matrix, objective)
    assert found.partition == planted
    assert found.margin > 0 and found.second != planted
    assert found.exact == (tasks <= 16)
    fixed = best_partition(matrix, objective, groups=tasks // 2)
    assert fixed.partition == planted


@settings(max_examples=15, deadline=None)
@given(st.data(), similarities(least=4, most=7), st.sampled_from(OBJECTIVES))
def test_heuristic_never_beats_and_mostly_reaches_the_optimum(data, matrix, objective):
    groups = data.draw(feasible(len(matrix), objective))
    best = best_partition(matrix, objective, groups=groups)
    weigh = GroupWeights(matrix, objective)
    first, _ = large.solve(weigh, len(matrix), groups, 1e-9)
    assert groups is None or len(first) == groups
    assert weigh.total(first) <= best.score + 1e-6
    assert weigh.total(first) >= best.score - 0.15 * np.abs(matrix).sum() - 1e-6


@pytest.mark.parametrize(
    ("tasks", "objective", "groups"),
    [(4, "tag_mean", 3), (4, "sum", 5), (1, "tag_mean", None), (5, "sum", 0)],
)
def test_impossible_group_counts_are_refused(tasks, objective, groups):
    with pytest.raises(ConfigurationError, match="grouping"):
        best_partition(np.ones((tasks, tasks)), objective, groups=groups)


def test_invalid_matrices_are_refused():
    for matrix in (np.ones((2, 3)), np.array([[0, 1], [2, 0.0]]), np.array([[0, np.nan], [np.nan, 0]])):
        with pytest.raises(ConfigurationError):
            best_partition(matrix, "sum")


def test_infinite_diagonal_is_ignored():
    matrix = np.ones((3, 3))
    np.fill_diagonal(matrix, np.inf)
    assert best_partition(matrix, "sum").partition == ((0, 1, 2),)
