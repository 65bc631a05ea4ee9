"""Which rows nothing beats in both of two numbers: fewer parameters and a higher accuracy."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class FrontRow:
    """A row: ``cost`` is better low, ``value`` is better high."""

    name: Hashable
    cost: float
    value: float


def front(candidates: Iterable[FrontRow]) -> list[Hashable]:
    """Names on the Pareto front, the cheapest first; of equal ones the first."""
    found: list[Hashable] = []
    best = float("-inf")
    for row in sorted(candidates, key=lambda row: (row.cost, -row.value)):
        if row.value > best:
            found.append(row.name)
            best = row.value
    return found
