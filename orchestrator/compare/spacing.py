"""Learning rates to try, as numbers: over a range, around a rate, and beyond an end."""

from __future__ import annotations

import math
from collections.abc import Sequence

from orchestrator.compare.comparison import Around, Edge


def rates(count: int, low: float, high: float) -> tuple[float, ...]:
    """``count`` learning rates from ``low`` to ``high``, evenly spaced in their logarithm; none for 0."""
    if count < 2:
        return ()
    step = math.log(high / low) / (count - 1)
    return tuple(rounded(low * math.exp(i * step)) for i in range(count))


def centred(around: Around, centre: float) -> tuple[float, ...]:
    """The first rates to try around ``centre``, ascending."""
    middle = (around.first - 1) / 2
    return tuple(rounded(centre * around.factor ** (i - middle)) for i in range(around.first))


def beyond(around: Around, tried: Sequence[float], best: float) -> float | None:
    """The next rate beyond the end of those tried at which the best lies; None if it lies inside."""
    match edge(tried, best):
        case "high":
            return rounded(best * around.factor)
        case "low":
            return rounded(best / around.factor)
    return None


def edge(tried: Sequence[float], best: float) -> Edge:
    """The end of the rates tried, ascending, that the best one is."""
    return "low" if best == tried[0] else "high" if best == tried[-1] else None


def rounded(rate: float) -> float:
    """Six digits: rates that people write stay what they wrote."""
    return float(f"{rate:.6g}")
