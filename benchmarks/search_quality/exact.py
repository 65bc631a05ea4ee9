"""Random search without its luck: its expected regret and cost, from order statistics of the whole table.

Of N points a search tries T at random, each as likely as any other, and chooses the one observed best.
The point that is j-th best as observed is chosen if it is among the T and none of the j − 1 before it is:
C(N − j, T − 1)/C(N, T). A cell that m points share is trained unless none of them is tried:
1 − C(N − m, T)/C(N, T). Averaged over every choice of the seeds that are observed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import combinations

from table import EPOCHS, Table


def regrets(table: Table, observed: Sequence[int], many: int) -> dict[str, float]:
    """By how much each point is worse than the best, on the seeds that are not observed.

    Args:
        table: of all points.
        observed: seeds that a search sees, or might have seen.
        many: epochs after which cells are compared.
    """
    fresh = [seed for seed in range(table.seeds) if seed not in observed]
    truth = {
        point: math.fsum(values[seed][many - 1] for seed in fresh) / len(fresh)
        for point, values in table.values.items()
    }
    best = max(truth.values())
    return {point: best - value for point, value in truth.items()}


def random_curve(table: Table, drawn: int, used: int, trials: int) -> list[tuple[float, float]]:
    """Expected (cells trained, regret) of random search after 1, 2, … trials.

    Args:
        table: of all points.
        drawn: seeds that are kept apart for observing.
        used: of those, how many a trial trains.
        trials: at most.
    """
    points = list(table.values)
    total = [[0.0, 0.0] for _ in range(trials)]
    draws = list(combinations(range(table.seeds), drawn))
    for draw in draws:
        lost, seen = regrets(table, draw, EPOCHS), draw[:used]
        mean = {p: math.fsum(table.values[p][s][EPOCHS - 1] for s in seen) for p in points}
        order = sorted(points, key=lambda p: -mean[p])
        shared = Counter(table.cells[p][s] for p in points for s in seen)
        for t in range(1, trials + 1):
            ways = math.comb(len(points), t)
            total[t - 1][0] += sum(1 - math.comb(len(points) - m, t) / ways for m in shared.values())
            total[t - 1][1] += sum(
                math.comb(len(points) - j, t - 1) / ways * lost[p] for j, p in enumerate(order, start=1)
            )
    return [(cells / len(draws), regret / len(draws)) for cells, regret in total]


def cost_to_reach(curve: Sequence[tuple[float, float]], regret: float) -> float | None:
    """The cost at which a falling curve of (cost, regret) first reaches a regret; None if it never does."""
    before: tuple[float, float] | None = None
    for cost, value in curve:
        if value <= regret:
            if before is None or value == before[1]:
                return cost
            share = (before[1] - regret) / (before[1] - value)
            return before[0] + share * (cost - before[0])
        before = (cost, value)
    return None
