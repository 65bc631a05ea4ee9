"""The partition of tasks with the highest total similarity.

Every objective is a sum over groups g, and within a group a weighted sum of the similarities of its pairs:

- ``tag_mean``: every task scores its mean similarity to the other members of its group (Fifty et al., TAG,
  with disjoint groups); singletons are forbidden. Each pair weighs 2/(|g| - 1).
- ``sum``: each pair weighs one; the literal reading of "maximize the total inter-task similarity". It
  collapses to one group when all similarities are positive.
- ``sum_centered``: ``sum`` after subtracting the mean similarity of all pairs; the number of groups follows
  from the data.

Solvers: enumeration up to 10 tasks, dynamic programming over subsets to 16, merging and local moves beyond.
Partitions within a relative tolerance are ties; the one of fewest groups wins, then the one whose first
group (that of task 0) holds task 1 rather than not, then task 2, and so on; then the second group.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Literal

import numpy as np
import numpy.typing as npt

from mmap_model.configuration import Partition
from mmap_model.errors import ConfigurationError
from mmap_model.grouping import large, subsets

PartitionObjective = Literal["tag_mean", "sum", "sum_centered"]
Matrix = npt.NDArray[np.float64]

ENUMERATED_TASKS = 10
EXACT_TASKS = 16
TOLERANCE = 1e-9
"""Of the objective, relative to the sum of absolute similarities."""


@dataclass(frozen=True)
class Solution:
    """The chosen partition and how close the next one comes.

    Attributes:
        partition: the best.
        score: its objective value, in units of similarity.
        second: the best of all other partitions, or None where there is no other.
        second_score: its value.
        exact: False where the search was heuristic.
    """

    partition: Partition
    score: float
    second: Partition | None
    second_score: float | None
    exact: bool

    @property
    def margin(self) -> float | None:
        """How much the best is better than the second (>= 0)."""
        return None if self.second_score is None else max(0.0, self.score - self.second_score)


def best_partition(
    similarity: Matrix, objective: PartitionObjective, *, groups: int | None = None
) -> Solution:
    """The best partition of N tasks.

    Args:
        similarity: [N, N], symmetric and finite; the diagonal is ignored.
        objective: see the module.
        groups: exact number of groups, or None to let the objective decide.

    Raises:
        ConfigurationError: no partition satisfies the objective and ``groups``, or the matrix is not valid.
    """
    tasks = check_similarity(similarity)
    check_groups(tasks, objective, groups)
    if tasks <= ENUMERATED_TASKS:
        return _enumerate(similarity, objective, groups)
    tolerance = TOLERANCE * (float(np.abs(pairs(similarity)).sum()) or 1.0)
    weigh = GroupWeights(similarity, objective)
    if tasks <= EXACT_TASKS:
        first, second = subsets.solve(weigh, tasks, groups, tolerance)
    else:
        first, second = large.solve(weigh, tasks, groups, tolerance)
    return Solution(
        first,
        weigh.total(first),
        second,
        None if second is None else weigh.total(second),
        exact=tasks <= EXACT_TASKS,
    )


def winners(stack: Matrix, objective: PartitionObjective, *, groups: int | None = None) -> list[Partition]:
    """The best partition of every matrix of a stack [n, N, N]; see `best_partition`."""
    tasks = stack.shape[-1]
    if tasks > ENUMERATED_TASKS:
        return [best_partition(matrix, objective, groups=groups).partition for matrix in stack]
    check_groups(tasks, objective, groups)
    table = _table(tasks, objective, groups)
    rows, columns = np.triu_indices(tasks, 1)
    values = stack[:, rows, columns]
    scores = table.coefficients @ values.T
    return [_partition(table.strings[_first(scores[:, n], values[n], table)]) for n in range(len(stack))]


def score_partition(similarity: Matrix, partition: Partition, objective: PartitionObjective) -> float:
    """The objective's value of a partition; -inf where it is forbidden."""
    return GroupWeights(similarity, objective).total(partition)


class GroupWeights:
    """The objective's value of single groups."""

    def __init__(self, similarity: Matrix, objective: PartitionObjective) -> None:
        centred = objective == "sum_centered" and len(similarity) > 1
        self._matrix = similarity - (float(pairs(similarity).mean()) if centred else 0.0)
        np.fill_diagonal(self._matrix, 0.0)
        self._mean = objective == "tag_mean"

    def total(self, partition: Partition) -> float:
        """Of a partition."""
        return sum(self.group(group) for group in partition)

    def group(self, members: tuple[int, ...]) -> float:
        """Of one group; -inf where it is forbidden."""
        inside = float(self._matrix[np.ix_(members, members)].sum()) / 2
        if not self._mean:
            return inside
        return 2 * inside / (len(members) - 1) if len(members) > 1 else -np.inf

    def masks(self) -> Matrix:
        """Of all groups, [2^N]: bit i of the index says that task i is a member. The empty group has 0."""
        tasks = len(self._matrix)
        sums = np.zeros(1 << tasks)
        for task in range(tasks):
            low = 1 << task
            with_lower = np.zeros(low)
            for other in range(task):
                bit = 1 << other
                with_lower[bit : 2 * bit] = with_lower[:bit] + self._matrix[task, other]
            sums[low : 2 * low] = sums[:low] + with_lower
        if self._mean:
            sizes = np.bitwise_count(np.arange(1 << tasks, dtype=np.uint32)).astype(np.int64)
            sums = np.where(sizes == 1, -np.inf, 2 * sums / np.maximum(sizes - 1, 1))
        return sums


def pairs(similarity: Matrix) -> Matrix:
    """The similarities of all pairs i < j."""
    return similarity[np.triu_indices(len(similarity), 1)]


def check_similarity(similarity: Matrix) -> int:
    """The number of tasks. Raises ConfigurationError unless the matrix is square, symmetric and finite."""
    shape = similarity.shape
    if len(shape) != 2 or shape[0] != shape[1] or shape[0] < 1:
        raise ConfigurationError(f"a similarity matrix of shape {shape} is not square", where="grouping")
    off = np.where(np.eye(len(similarity), dtype=bool), 0.0, similarity)
    if not np.isfinite(off).all():
        raise ConfigurationError(
            "task similarities are not finite",
            where="grouping.probe",
            fix="lower grouping.probe.recipe.lr: the probe diverged",
        )
    if not np.allclose(off, off.T, rtol=1e-6, atol=1e-12 * float(np.abs(off).max(initial=0))):
        raise ConfigurationError("task similarities are not symmetric", where="grouping")
    return int(shape[0])


def check_groups(tasks: int, objective: PartitionObjective, groups: int | None) -> None:
    """Raise ConfigurationError unless ``tasks`` tasks have a partition that the objective admits."""
    if objective == "tag_mean" and tasks < 2:
        raise ConfigurationError(
            "tag_mean forbids groups of one task, and there is one task",
            where="grouping.objective",
            fix="use grouping.mode=single",
        )
    most = tasks // 2 if objective == "tag_mean" else tasks
    if groups is not None and not 1 <= groups <= most:
        reason = " because tag_mean forbids groups of one task" if objective == "tag_mean" else ""
        raise ConfigurationError(
            f"{tasks} tasks cannot form {groups} groups{reason}",
            where="grouping.groups",
            fix=f"use 1 to {most}, or null",
        )


@dataclass(frozen=True)
class _Table:
    """All admissible partitions: strings [P, N], pair coefficients [P, pairs], numbers of groups [P]."""

    strings: npt.NDArray[np.int8]
    coefficients: Matrix
    groups: npt.NDArray[np.int64]


@lru_cache(maxsize=8)
def _table(tasks: int, objective: PartitionObjective, groups: int | None) -> _Table:
    strings = restricted_growth_strings(tasks)
    counts = strings.max(axis=1).astype(np.int64) + 1
    sizes = np.stack([(strings == g).sum(axis=1) for g in range(tasks)], axis=1)
    keep = np.ones(len(strings), bool) if groups is None else counts == groups
    if objective == "tag_mean":
        keep &= ~(sizes == 1).any(axis=1)
    strings, counts, sizes = strings[keep], counts[keep], sizes[keep]
    rows, columns = np.triu_indices(tasks, 1)
    coefficients = (strings[:, rows] == strings[:, columns]).astype(np.float64)
    if objective == "tag_mean":
        own = np.take_along_axis(sizes, strings.astype(np.int64), axis=1)[:, rows]
        coefficients *= 2 / np.maximum(own - 1, 1)
    elif objective == "sum_centered" and tasks > 1:
        coefficients -= coefficients.mean(axis=1, keepdims=True)
    return _Table(strings, coefficients, counts)


def restricted_growth_strings(tasks: int) -> npt.NDArray[np.int8]:
    """All set partitions of N tasks, [Bell(N), N] in lexicographic order; groups numbered by appearance."""
    strings = np.zeros((1, 1), np.int8)
    for _ in range(1, tasks):
        choices = strings.max(axis=1).astype(np.int64) + 2
        parents = np.repeat(np.arange(len(strings)), choices)
        starts = np.repeat(np.cumsum(choices) - choices, choices)
        label = (np.arange(len(parents)) - starts).astype(np.int8)
        strings = np.concatenate([strings[parents], label[:, None]], axis=1)
    return strings


def _enumerate(similarity: Matrix, objective: PartitionObjective, groups: int | None) -> Solution:
    table = _table(len(similarity), objective, groups)
    values = pairs(similarity)
    scores = table.coefficients @ values
    first = _first(scores, values, table)
    others = scores.copy()
    others[first] = -np.inf
    second = _first(others, values, table) if len(scores) > 1 else None
    return Solution(
        _partition(table.strings[first]),
        float(scores[first]),
        None if second is None else _partition(table.strings[second]),
        None if second is None else float(scores[second]),
        exact=True,
    )


def _first(scores: Matrix, values: Matrix, table: _Table) -> int:
    """The best of a table: among ties the fewest groups, then as `subsets` walks through groups."""
    tied = np.flatnonzero(scores >= scores.max() - TOLERANCE * np.abs(values).sum())
    tied = tied[table.groups[tied] == table.groups[tied].min()]
    tasks = table.strings.shape[1]
    for group, task in product(range(tasks), range(tasks)):
        if len(tied) == 1:
            break
        with_task = table.strings[tied, task] == group
        tied = tied[with_task] if with_task.any() else tied
    return int(tied[0])


def _partition(string: npt.NDArray[np.int8]) -> Partition:
    return tuple(tuple(np.flatnonzero(string == g).tolist()) for g in range(int(string.max()) + 1))
