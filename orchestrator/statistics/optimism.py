"""How much of the winner's lead in a search was luck: its lead there, minus its lead on fresh seeds.

The winner was selected by the numbers that show its lead, so that these are expected to be too large. Fresh
seeds selected nothing. With w the winner, j the other finalists, and y the values by seed, the lead is the
mean over j of the mean over the seeds of both of y_w − y_j. Both leads are linear in the values, and each
difference is of one seed, whose own level cancels. In the additive model (configuration + seed + residual)
their variances are therefore σ²·Σw² with the weights w of the values. σ comes from the residuals of both
together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from orchestrator.statistics.noise import ResidualNoise
from orchestrator.statistics.summary import CONFIDENCE, student_cdf, student_quantile

ONE_POINT = 0.01
"""The optimism whose power is stated."""

POWER = 0.8
"""Of the ``detectable`` optimism."""

Values = Mapping[int, Mapping[str, float]]
"""By finalist and seed."""


@dataclass(frozen=True, kw_only=True)
class Optimism:
    """The winner's lead over the other finalists, before and after its selection.

    Attributes:
        winner: first by the search.
        search, fresh: its lead there and on fresh seeds, as fractions of 1.
        mean: ``search`` − ``fresh``.
        low, high: t-interval of ``mean`` at `CONFIDENCE`; None without any known noise.
        power: probability that a two-sided test at 1 − `CONFIDENCE` finds an optimism of one point.
        detectable: the optimism that it finds with probability `POWER`.
        nu: degrees of freedom of the noise.
        seeds: fresh seeds of the winner.
    """

    winner: int
    search: float
    fresh: float
    mean: float
    low: float | None
    high: float | None
    power: float | None
    detectable: float | None
    nu: int
    seeds: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def optimism(
    finalists: Sequence[int], search: Values, fresh: Values, noise: ResidualNoise | None
) -> Optimism | None:
    """Compare the leads of the first finalist.

    Args:
        finalists: the best by the search first.
        search: values by which they were selected.
        fresh: values on other seeds, as far as each was measured.
        noise: the residual, pooled over the search and the fresh seeds, if any is known.

    Returns:
        None where the first finalist shares no fresh seed, or none of the search, with another.
    """
    winner, *others = finalists
    rivals = [rival for rival in others if _shared(search, winner, rival) and _shared(fresh, winner, rival)]
    if not rivals:
        return None
    before, spread_before = _lead(search, winner, rivals)
    after, spread_after = _lead(fresh, winner, rivals)
    mean = before - after
    error = 0.0 if noise is None else noise.s * math.sqrt(spread_before + spread_after)
    found = Optimism(
        winner=winner,
        search=before,
        fresh=after,
        mean=mean,
        low=None,
        high=None,
        power=None,
        detectable=None,
        nu=0 if noise is None else noise.nu,
        seeds=len(fresh[winner]),
    )
    if noise is None or not error:
        return found
    critical = student_quantile(0.5 + CONFIDENCE / 2, noise.nu)
    return Optimism(
        **{
            **vars(found),
            "low": mean - critical * error,
            "high": mean + critical * error,
            "power": _power(ONE_POINT / error, critical, noise.nu),
            "detectable": (critical + student_quantile(POWER, noise.nu)) * error,
        }
    )


def _shared(values: Values, one: int, other: int) -> list[str]:
    return [seed for seed in values.get(one, {}) if seed in values.get(other, {})]


def _lead(values: Values, winner: int, rivals: Sequence[int]) -> tuple[float, float]:
    """The winner's mean lead over its rivals, and the sum of its squared weights."""
    lead = 0.0
    weights: dict[tuple[int, str], float] = {}
    for rival in rivals:
        seeds = _shared(values, winner, rival)
        share = 1 / (len(rivals) * len(seeds))
        for seed in seeds:
            lead += share * (values[winner][seed] - values[rival][seed])
            weights[winner, seed] = weights.get((winner, seed), 0.0) + share
            weights[rival, seed] = -share
    return lead, math.fsum(weight**2 for weight in weights.values())


def _power(effect: float, critical: float, degrees: int) -> float:
    """Of a two-sided t-test, by the shifted t distribution: a close approximation from ten degrees on."""
    return 1 - _cdf(critical - effect, degrees) + _cdf(-critical - effect, degrees)


def _cdf(t: float, degrees: int) -> float:
    return student_cdf(t, degrees) if t >= 0 else 1 - student_cdf(-t, degrees)
