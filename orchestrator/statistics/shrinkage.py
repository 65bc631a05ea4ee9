"""How good each configuration is, once it is accounted for that the best of many is partly luck.

The additive model y_cb = block_b + a_c + e with e ~ N(0, σ²) and a_c ~ N(0, τ²) draws the means of k
configurations towards each other, the more the less they differ beside the noise. With v = 1 + nλ and
λ = τ²/σ², k configurations on the same n blocks and a flat prior on the blocks' levels, log σ and τ/σ,

    p(λ | y) ∝ p(λ) · v^(−(k−1)/2) · (SSE + SSB/v)^(−(k−1)n/2)
    a_c | λ, σ ~ N(w(ȳ_c − ȳ), wσ²/n),   w = 1 − 1/v

(Gelman, Bayesian Analysis 2006, on the prior; Efron & Morris, JASA 1975, on what is drawn together). λ is
integrated over a grid, even in τ/σ near the bulk and reaching to infinity. Configurations that lack some of
the blocks are estimated by the same model from those they have (Henderson's equations with the restricted
likelihood of λ, of which the formulas above are the balanced case): who was left out because of what was seen
so far may be left out. Of two configurations the flat prior leaves no proper posterior; they get the
half-Cauchy prior 1/(1 + τ²/σ²).

Intervals are of a configuration's level on the blocks that were used, averaged over all of them. They cover
the noise between configurations, not other blocks: what all share at a seed cancels in every comparison.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, Literal, TypeVar

from orchestrator.statistics.cochran import ROUNDING
from orchestrator.statistics.noise import ResidualNoise, ValueTable, pooled_noise
from orchestrator.statistics.posterior import Posterior
from orchestrator.statistics.summary import CONFIDENCE

R = TypeVar("R", bound=Hashable)
B = TypeVar("B", bound=Hashable)

ONE_SIGMA = 0.15865525393145707
"""Probability beyond one standard deviation of a normal variable, on one side."""

SEED = 6
Reason = Literal["one configuration", "one seed", "no noise"]
"""Why means are not drawn together: nothing to draw to, no noise known, or a noise of zero."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One configuration.

    Attributes:
        mean: of its own values.
        n: number of its values.
        shrunk: posterior mean of its level on all blocks; its own mean where there is a reason not to shrink.
        error: standard error of that: half the central 68.3 % of its posterior; None where no noise is known.
        low, high: interval of it at ``CONFIDENCE``; None where no noise is known.
        best: probability that its level is the highest; None where no noise is known.
    """

    mean: float
    n: int
    shrunk: float
    error: float | None = None
    low: float | None = None
    high: float | None = None
    best: float | None = None

    def to_dict(self) -> dict[str, float | int | None]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Shrinkage(Generic[R]):
    """What is known of all configurations of a table.

    Attributes:
        estimates: by configuration, in the table's order.
        noise: pooled residual; None where there is none.
        spread: posterior median of τ/σ, by how much configurations differ beside the noise; None where it is
            not estimated.
        reason: why means are not drawn together; None if they are.
    """

    estimates: Mapping[R, Estimate] = field(default_factory=dict)
    noise: ResidualNoise | None = None
    spread: float | None = None
    reason: Reason | None = None

    def of(self, name: R) -> dict[str, float | int | None] | None:
        """A configuration's estimate, JSON-able; None if it has none."""
        found = self.estimates.get(name)
        return None if found is None else found.to_dict()

    def to_dict(self) -> dict[str, Any]:
        """What the estimates rest on, JSON-able."""
        noise = None if self.noise is None else self.noise.to_dict()
        return {"noise": noise, "spread": self.spread, "reason": self.reason}


def shrink(table: ValueTable[R, B], *, noise: ResidualNoise | None = None, seed: int = SEED) -> Shrinkage[R]:
    """Estimate every configuration of a table, and how likely each is the best.

    In complete tables the order by shrunk mean is that by mean. The same table gives the same numbers.

    Args:
        table: values by configuration and block, of which more is better. Configurations may lack blocks.
        noise: what is known of σ from elsewhere, counted like as many residuals more.
        seed: of the Monte-Carlo draws.
    """
    rows = {name: row for name, row in table.items() if row}
    known = pooled_noise(rows)
    means = {name: math.fsum(row.values()) / len(row) for name, row in rows.items()}
    plain = {name: Estimate(mean=means[name], n=len(row), shrunk=means[name]) for name, row in rows.items()}
    if len(rows) < 2:
        return Shrinkage(estimates=plain, noise=known, reason="one configuration")
    if known is None and noise is None:
        return Shrinkage(estimates=plain, reason="one seed")
    if noise is None and known is not None and known.is_zero:
        return Shrinkage(estimates=_certain(rows, means), noise=known, reason="no noise")
    model = Posterior(rows, noise)
    tail = (1 - CONFIDENCE) / 2
    centre, low, high = model.centre(), model.quantile(tail), model.quantile(1 - tail)
    error = (model.quantile(1 - ONE_SIGMA) - model.quantile(ONE_SIGMA)) / 2
    best = model.best(centre, error, seed)
    return Shrinkage(
        estimates={
            name: Estimate(
                mean=means[name],
                n=len(row),
                shrunk=float(centre[i]),
                error=float(error[i]),
                low=float(low[i]),
                high=float(high[i]),
                best=float(best[i]),
            )
            for i, (name, row) in enumerate(rows.items())
        },
        noise=known,
        spread=model.spread(),
    )


def _certain(rows: ValueTable[R, B], means: Mapping[R, float]) -> dict[R, Estimate]:
    """Estimates where nothing varies: the highest mean is the best; several share that."""
    top = max(means.values())
    best = [name for name, mean in means.items() if top - mean < ROUNDING]
    return {
        name: Estimate(
            mean=means[name],
            n=len(row),
            shrunk=means[name],
            error=0.0,
            low=means[name],
            high=means[name],
            best=1 / len(best) if name in best else 0.0,
        )
        for name, row in rows.items()
    }
