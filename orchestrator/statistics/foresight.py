"""How well the ranking of trials after an epoch predicts their ranking after the last one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

FEWEST = 4
"""Trials below which a rank correlation says nothing."""


@dataclass(frozen=True, kw_only=True)
class Foresight:
    """An epoch's ranking beside the last one's.

    Attributes:
        epoch: 1-based.
        correlation: Spearman's, −1 … 1; None where the trials are equal at this epoch or at the last.
        trials: that reached both.
        place: 1-based place at this epoch of the trial that is best at the last one.
    """

    epoch: int
    correlation: float | None
    trials: int
    place: int


def foresight(curves: Sequence[Mapping[int, float]]) -> list[Foresight]:
    """Every epoch's ranking beside that of the last epoch; empty with fewer than `FEWEST` whole trials.

    Trials that were stopped early have no last epoch and are left out: among the others, which were better
    when the weak ones were stopped, ranks differ less and correlate less than among all.

    Args:
        curves: by trial, the objective by epoch.
    """
    from scipy.stats import spearmanr

    last = max((epoch for curve in curves for epoch in curve), default=0)
    whole = [curve for curve in curves if math.isfinite(curve.get(last, math.nan))]
    if len(whole) < FEWEST:
        return []
    found = []
    for epoch in sorted({epoch for curve in whole for epoch in curve}):
        reached = [curve for curve in whole if math.isfinite(curve.get(epoch, math.nan))]
        if len(reached) < FEWEST:
            continue
        now, then = [curve[epoch] for curve in reached], [curve[last] for curve in reached]
        varies = len(set(now)) > 1 and len(set(then)) > 1
        best = now[max(range(len(reached)), key=lambda i: then[i])]
        found.append(
            Foresight(
                epoch=epoch,
                correlation=float(spearmanr(now, then).statistic) if varies else None,
                trials=len(reached),
                place=1 + sum(value > best for value in now),
            )
        )
    return found
