"""The posterior of all configurations' levels in the additive model, on a grid of λ = τ²/σ².

See ``.shrinkage`` for the model. In the shapes k is configurations, p blocks, G nodes of the grid.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from orchestrator.statistics.noise import ResidualNoise, ValueTable
from orchestrator.statistics.student import cdf, density
from orchestrator.statistics.summary import student_quantile

if TYPE_CHECKING:
    from numpy import float64, int64
    from numpy.random import Generator
    from numpy.typing import NDArray

    Array = NDArray[float64]

R = TypeVar("R", bound=Hashable)
B = TypeVar("B", bound=Hashable)

COARSE, FINE = 48, 64
"""Nodes by which the bulk of the posterior is found, and nodes over the bulk."""

NEGLIGIBLE = 1e-8
"""Posterior weight, beside the heaviest node's, below which a node is left out."""

STEPS, CLOSE = 60, 1e-8
"""Towards a quantile, at most, and the error of its probability that is close enough."""

DRAWS = 20_000
"""Of all levels, for the probability of being best: its standard error is at most 0.4 points."""

HOPELESS, NEARLY_NORMAL = 10.0, 30
"""Configurations so many standard errors behind are not drawn, given so many degrees of freedom."""

CHUNK = 4_000_000
"""Values drawn at a time."""


class Posterior:
    """Levels of configurations and blocks.

    Given λ the blocks' levels β are normal about ``levels`` [G, p], with covariance σ²·``inverse`` [G, p, p].
    a_c given β is normal about g_c(S_c − m_c·β) with variance σ²g_c, where g_c = λ/(1 + n_cλ), m_c marks the
    blocks of c and S_c is the sum of its values; σ² is ``squares`` over χ² with ``nu`` degrees of freedom.

    Args:
        rows: two configurations or more, each with a value.
        noise: what is known of σ from elsewhere.
    """

    def __init__(self, rows: ValueTable[R, B], noise: ResidualNoise | None) -> None:
        import numpy as np

        blocks = list(dict.fromkeys(block for row in rows.values() for block in row))
        table = np.array([[row.get(b, math.nan) for b in blocks] for row in rows.values()], dtype=np.float64)
        known = ~np.isnan(table)
        self.shift = float(np.nanmean(table))
        self.mask = known.astype(np.float64)
        self._values = np.where(known, table - self.shift, 0.0)
        self._known = noise.nu * noise.s**2 if noise else 0.0
        self.sums = self._values.sum(1)
        self.nu = int(known.sum()) - len(blocks) + (noise.nu if noise else 0)
        middle = self._bulk()
        u = self._solve((np.arange(COARSE) + 0.5) / COARSE, middle)
        first, last = max(0.0, u[0] - 0.5 / COARSE), min(1.0, u[-1] + 0.5 / COARSE)
        self._solve(first + (last - first) * (np.arange(FINE) + 0.5) / FINE, middle)

    def _bulk(self) -> float:
        """About where τ/σ lies: by the moments of an analysis of variance, at least √(1/n)."""
        import numpy as np

        counts = self.mask.sum(1)
        means = self.sums / counts
        apart = self._values - means[:, None] * self.mask
        apart -= apart.sum(0) / self.mask.sum(0) * self.mask
        within = float((apart**2).sum()) / max(float(self.mask.sum()) - len(means), 1)
        least = 1 / float(np.median(counts))
        return 1.0 if within == 0 else math.sqrt(max(float(np.var(means, ddof=1)) / within - least, least))

    def _solve(self, u: Array, middle: float) -> Array:
        """Weigh the nodes τ/σ = middle·u/(1 − u), keep those that count, return their u."""
        import numpy as np

        k, p = self.mask.shape
        ratio, counts = middle * u / (1 - u), self.mask.sum(1)
        lam = ratio[:, None] ** 2
        g = lam / (1 + counts * lam)
        pairs = (self.mask[:, :, None] * self.mask[:, None, :]).reshape(k, p * p)
        normal = np.diag(self.mask.sum(0)) - (g @ pairs).reshape(-1, p, p)
        right = self._values.sum(0) - (g * self.sums) @ self.mask
        levels = np.linalg.solve(normal, right[..., None])[..., 0]
        squares = (self._values**2).sum() - g @ self.sums**2 - (right * levels).sum(1) + self._known
        squares = np.maximum(squares, np.finfo(np.float64).tiny)
        prior = 1.0 if k > 2 else 1 / (1 + ratio**2)
        log_weight = (
            -np.log1p(counts * lam).sum(1) / 2
            - np.linalg.slogdet(normal)[1] / 2
            - self.nu / 2 * np.log(squares)
            + np.log(prior / (1 - u) ** 2)
        )
        weight = np.exp(log_weight - log_weight.max())
        heavy = weight > NEGLIGIBLE
        self.ratio, self.weight = ratio[heavy], weight[heavy] / weight[heavy].sum()
        self.g, self.levels, self.squares = g[heavy], levels[heavy], squares[heavy]
        self.inverse = np.linalg.inv(normal[heavy])
        kept: Array = u[heavy]
        return kept

    def spread(self) -> float:
        """Posterior median of τ/σ."""
        import numpy as np

        return float(np.interp(0.5, np.cumsum(self.weight) - self.weight / 2, self.ratio))

    @cached_property
    def _given(self) -> tuple[Array, Array]:
        """Location and scale [G, k] of every level given λ: Student's t with ``nu`` degrees of freedom."""
        import numpy as np

        location, variance = np.empty_like(self.g), np.empty_like(self.g)
        for i, g in enumerate(self.g):
            # The level of c is the mean of β over all blocks + a_c = g_c S_c + (1/p − g_c m_c)·β + noise.
            slope = 1 / self.mask.shape[1] - g[:, None] * self.mask
            location[i] = g * self.sums + slope @ self.levels[i]
            variance[i] = g + ((slope @ self.inverse[i]) * slope).sum(1)
        return location, np.sqrt(self.squares[:, None] / self.nu * variance)

    def centre(self) -> Array:
        """Posterior mean [k] of every level; its median where one degree of freedom leaves no mean."""
        found: Array = self.weight @ self._given[0] + self.shift
        return found

    def quantile(self, probability: float) -> Array:
        """Of every level [k]: of the mixture over λ of Student's t, by Newton's method within a bracket."""
        import numpy as np

        location, scale = self._given
        upper = student_quantile(max(probability, 1 - probability), self.nu)
        parts = location + scale * math.copysign(upper, probability - 0.5)
        low, high, found = parts.min(0), parts.max(0), self.weight @ parts
        for _ in range(STEPS):
            t = (found - location) / scale
            excess = self.weight @ cdf(t, self.nu) - probability
            if np.abs(excess).max() < CLOSE:
                break
            slope = self.weight @ (density(t, self.nu) / scale)
            low, high = np.where(excess < 0, found, low), np.where(excess < 0, high, found)
            step = found - excess / np.maximum(slope, np.finfo(np.float64).tiny)
            found = np.where((low < step) & (step < high), step, (low + high) / 2)
        result: Array = found + self.shift
        return result

    def best(self, centre: Array, error: Array, seed: int) -> Array:
        """Share [k] of draws of all levels in which each is the highest.

        Args:
            centre, error: location and scale of every level.
            seed: of the draws.
        """
        import numpy as np

        first = int(centre.argmax())
        apart = (centre[first] - centre) / np.hypot(error, error[first])
        among = np.flatnonzero(apart < HOPELESS) if self.nu > NEARLY_NORMAL else np.arange(len(centre))
        rng = np.random.default_rng(seed)
        nodes = np.searchsorted(np.cumsum(self.weight), (np.arange(DRAWS) + 0.5) / DRAWS)
        nodes = np.minimum(nodes, len(self.weight) - 1)
        wins = np.zeros(len(centre))
        for node, count in zip(*np.unique(nodes, return_counts=True), strict=True):
            wins[among] += self._wins(rng, int(node), int(count), among)
        return wins / DRAWS

    def _wins(self, rng: Generator, node: int, draws: int, among: NDArray[int64]) -> Array:
        """How often each of ``among`` is the highest in so many draws at one λ."""
        import numpy as np

        root, g, mask = np.linalg.cholesky(self.inverse[node]), self.g[node][among], self.mask[among]
        wins, size = np.zeros(len(among)), max(1, CHUNK // len(among))
        for start in range(0, draws, size):
            n = min(draws - start, size)
            sigma = np.sqrt(self.squares[node] / rng.chisquare(self.nu, size=n))[:, None]
            beta = self.levels[node] + sigma * (rng.standard_normal((n, len(root))) @ root.T)
            effects = g * (self.sums[among] - beta @ mask.T)
            effects += sigma * np.sqrt(g) * rng.standard_normal((n, len(among)))
            wins += np.bincount(effects.argmax(1), minlength=len(among))
        return wins
