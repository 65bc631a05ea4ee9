"""Heuristic search for many tasks: merge groups while that helps, then move and swap single tasks.

Started from singletons and from a few random partitions; deterministic. The result is a local optimum.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Protocol

from mmap_model.configuration import Partition, canonical_partition
from mmap_model.data.streams import stream

RESTARTS = 8

Groups = list[set[int]]


class GroupValues(Protocol):
    """Values of single groups."""

    def group(self, members: tuple[int, ...]) -> float:
        """Of one group; -inf where it is forbidden."""


def solve(
    weigh: GroupValues, tasks: int, groups: int | None, tolerance: float
) -> tuple[Partition, Partition | None]:
    """The best partition found, and the best of the others seen next to it."""
    search = _Search(weigh, groups, tolerance)
    found = [search.climb(search.merged(tasks))]
    for restart in range(RESTARTS):
        found.append(search.climb(search.scattered(tasks, restart)))
    ranked = sorted({_canonical(g) for g in found}, key=search.rank)
    best = ranked[0]
    near = {_canonical(g) for g in search.neighbours([set(g) for g in best])}
    others = sorted((p for p in {*ranked[1:], *near} - {best} if search.admits(p)), key=search.rank)
    return best, others[0] if others else None


class _Search:
    def __init__(self, weigh: GroupValues, groups: int | None, tolerance: float) -> None:
        self._weigh = weigh
        self._groups = groups
        self._tolerance = tolerance
        self._values: dict[frozenset[int], float] = {}

    def value(self, group: set[int]) -> float:
        """Of a group; a forbidden one costs more than anything else could gain."""
        key = frozenset(group)
        if key not in self._values:
            value = self._weigh.group(tuple(sorted(group)))
            self._values[key] = max(value, -1e6 * (1 + 1e9 * self._tolerance))
        return self._values[key]

    def total(self, groups: Groups | Partition) -> float:
        return sum(self.value(set(g)) for g in groups)

    def rank(self, partition: Partition) -> tuple[float, int, Partition]:
        """Sorts the best first; values are compared in steps of the tolerance."""
        value = self.total(partition)
        step = round(value / self._tolerance) if self._tolerance else value
        return -step, len(partition), partition

    def admits(self, partition: Partition) -> bool:
        counted = self._groups is None or len(partition) == self._groups
        return counted and all(self._weigh.group(g) > float("-inf") for g in partition)

    def merged(self, tasks: int) -> Groups:
        """Singletons, merged two by two while the value rises or there are too many groups."""
        groups: Groups = [{t} for t in range(tasks)]
        while len(groups) > 1:
            a, b = max(
                combinations(range(len(groups)), 2), key=lambda p: self._gain(groups[p[0]], groups[p[1]])
            )
            gain = self._gain(groups[a], groups[b])
            enough = gain <= self._tolerance if self._groups is None else len(groups) <= self._groups
            if enough:
                break
            groups[a] |= groups.pop(b)
        return groups

    def _gain(self, a: set[int], b: set[int]) -> float:
        return self.value(a | b) - self.value(a) - self.value(b)

    def scattered(self, tasks: int, restart: int) -> Groups:
        """A random partition, of the wanted number of groups if one is wanted."""
        draws = stream("large partition", tasks, restart)
        count = self._groups or int(draws.integers(1, tasks // 2 + 1))
        order = draws.permutation(tasks).tolist()
        return [set(order[start::count]) for start in range(count)]

    def climb(self, groups: Groups) -> Groups:
        """Take the best neighbour until none is better."""
        while True:
            value = self.total(groups)
            best = max(self.neighbours(groups), key=self.total, default=groups)
            if self.total(best) <= value + self._tolerance:
                return groups
            groups = best

    def neighbours(self, groups: Groups) -> Iterator[Groups]:
        """One task moved to another or a new group, two tasks swapped, or two groups merged."""
        for a, group in enumerate(groups):
            for task in sorted(group):
                for b in range(len(groups) + 1):
                    if b != a and (len(group) > 1 or b < len(groups)):
                        yield from self._keep(_moved(groups, task, a, b))
                for b in range(a + 1, len(groups)):
                    for other in sorted(groups[b]):
                        yield from self._keep(_swapped(groups, task, a, other, b))
        for a, b in combinations(range(len(groups)), 2):
            yield from self._keep([g | groups[b] if n == a else g for n, g in enumerate(groups) if n != b])

    def _keep(self, groups: Groups) -> Iterator[Groups]:
        if self._groups is None or len(groups) == self._groups:
            yield groups


def _moved(groups: Groups, task: int, source: int, target: int) -> Groups:
    moved = [set(g) for g in groups] + [set()]
    moved[source].discard(task)
    moved[target].add(task)
    return [g for g in moved if g]


def _swapped(groups: Groups, task: int, source: int, other: int, target: int) -> Groups:
    swapped = [set(g) for g in groups]
    swapped[source] = swapped[source] - {task} | {other}
    swapped[target] = swapped[target] - {other} | {task}
    return swapped


def _canonical(groups: Groups) -> Partition:
    return canonical_partition(groups)
