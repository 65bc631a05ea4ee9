"""The complete trials of a ranking as a table of configurations and seeds, and what is estimated of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from orchestrator.statistics.shrinkage import Shrinkage, shrink
from orchestrator.statistics.significance import Significance

if TYPE_CHECKING:
    from orchestrator.statistics.ranking import MeasuredRow


def estimate_rows(rows: Iterable[MeasuredRow], found: Significance) -> Shrinkage[int]:
    """Estimate the complete trials of a ranking; the unit is the seed, over splits their mean.

    Trials that share all cells are one configuration and have one estimate. Trials whose variance is an
    outlier have none: the model gives all the same.

    Args:
        rows: of the ranking.
        found: what is said of them beside the first.
    """
    estimated = shrink(seed_table(rows, found))
    twins = {
        number: estimated.estimates[other]
        for number, other in found.same.items()
        if other in estimated.estimates
    }
    return Shrinkage(
        estimates={**estimated.estimates, **twins},
        noise=estimated.noise,
        spread=estimated.spread,
        reason=estimated.reason,
    )


def seed_table(rows: Iterable[MeasuredRow], found: Significance) -> dict[int, Mapping[Any, float]]:
    """Values by trial and seed of the complete trials that may be pooled, each configuration once.

    Args:
        rows: of the ranking.
        found: what is said of them beside the first.
    """
    left_out = {*found.apart, *found.same}
    return {row.trial.number: row.seeds for row in rows if row.competes and row.trial.number not in left_out}
