"""Cochran's C test: rows whose residual variance is too large to be pooled with the others'.

In the additive model (row + block) of m rows on n blocks, C = m/(m − 1) · Σ_b e_ib² / Σ e² is the share that
row i adds to the residual sum of squares. Of equal variances it follows Beta((n − 1)/2, (m − 2)(n − 1)/2)
exactly; the largest of m is judged at level/m (Cochran, Annals of Eugenics 1941, for a two-way residual).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import median

ROUNDING = 1e-9
"""Residual standard deviations below this are zero: accuracies are counts over fewer images."""

Residuals = Sequence[float]
"""A row's values on the n blocks, in the same order for all rows."""


def outliers(rows: Sequence[Residuals], level: float) -> set[int]:
    """Indices of the rows whose residual variance is an outlier, less than half of them.

    Several outliers hide one another from a test of the largest alone. As in Rosner's many-outlier
    procedure (Technometrics 1983), rows are therefore added to the steadier half in order of their
    variance, and the first that does not fit is an outlier with all that come after it.

    Args:
        rows: of equal length.
        level: probability of finding any where all variances are equal, at each size.
    """
    order = sorted(range(len(rows)), key=_spreads(rows).__getitem__)
    kept = len(rows) // 2 + 1
    pool = PooledResidual(rows[i] for i in order[:kept])
    for position in range(kept, len(rows)):
        row = rows[order[position]]
        if pool.tail(row) * (pool.size + 1) < level:
            return set(order[position:])
        pool.add(row)
    return set()


class PooledResidual:
    """The residual of the additive model (row + block), one row after another.

    Attributes:
        size: number of rows, m.
        squares: residual sum of squares, Σ (y − ȳ_row − ȳ_block + ȳ)², of (m − 1)(n − 1) degrees of freedom.
    """

    def __init__(self, rows: Iterable[Residuals] = ()) -> None:
        self.size = 0
        self.squares = 0.0
        self._sums: list[float] = []
        for row in rows:
            self.add(row)

    def add(self, row: Residuals) -> None:
        """Take a row in. Its share of the squares is exact whatever the order."""
        self.squares += self.share(row)
        self._sums = [a + b for a, b in zip(self._sums, row, strict=True)] if self.size else list(row)
        self.size += 1

    def share(self, row: Residuals) -> float:
        """By how much a further row raises ``squares``: σ² χ²(n − 1) if its variance is the pool's."""
        if not self.size:
            return 0.0
        differences = [y - total / self.size for y, total in zip(row, self._sums, strict=True)]
        centre = math.fsum(differences) / len(differences)
        return self.size / (self.size + 1) * math.fsum((d - centre) ** 2 for d in differences)

    def tail(self, row: Residuals) -> float:
        """Probability that a given further row of the same variance has a share at least as large.

        1 where the pool has no variance to compare with.
        """
        share, degrees = self.share(row), len(row) - 1
        if self.deviation(degrees) < ROUNDING:
            return 1.0
        rest = self.squares / (self.squares + share)
        return incomplete_beta(rest, (self.size - 1) * degrees / 2, degrees / 2)

    def deviation(self, degrees: int) -> float:
        """s, the residual standard deviation, of rows with that many degrees of freedom; 0 without any."""
        nu = (self.size - 1) * degrees
        return math.sqrt(self.squares / nu) if nu > 0 else 0.0


def incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by its continued fraction (DLMF 8.17.22)."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(1 - x, b, a)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    # Lentz's method.
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    fraction = d
    for m in range(1, 10_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d, c = 1 / (1 + even * d), 1 + even / c
        fraction *= d * c
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d, c = 1 / (1 + odd * d), 1 + odd / c
        fraction *= d * c
        if abs(d * c - 1) < 1e-15:
            break
    return front * fraction / a


def _spreads(rows: Sequence[Residuals]) -> list[float]:
    """Each row's squares about its mean without the blocks' medians, which a few odd rows do not move."""
    centred = [[y - math.fsum(row) / len(row) for y in row] for row in rows]
    blocks = [median(column) for column in zip(*centred, strict=True)]
    found = []
    for row in centred:
        differences = [y - block for y, block in zip(row, blocks, strict=True)]
        centre = math.fsum(differences) / len(differences)
        found.append(math.fsum((d - centre) ** 2 for d in differences))
    return found
