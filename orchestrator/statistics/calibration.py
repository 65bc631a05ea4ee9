"""How well a classifier's confidence matches its accuracy: reliability by bins of confidence, and the ECE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BINS = 15


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Images whose confidence lies in (low, high].

    Attributes:
        low, high: edges, in 0 … 1.
        count: images.
        confidence, accuracy: their means; None where there is no image.
    """

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Reliability:
    """Bins of equal width, and the expected calibration error: the mean |accuracy − confidence| over images
    (Guo et al., ICML 2017)."""

    bins: tuple[Bin, ...]
    ece: float
    count: int


def reliability(confidence: Sequence[float], right: Sequence[bool], bins: int = BINS) -> Reliability:
    """Reliability of predictions, binned as the recorded ``ece`` is.

    Args:
        confidence: probability of the predicted class, in 0 … 1, by image; at least one.
        right: whether it is the true class.
        bins: of equal width.
    """
    values, hits = np.asarray(confidence, np.float64), np.asarray(right, np.float64)
    assert len(values) == len(hits) > 0, "an image has a confidence and a truth"
    places = np.clip(np.ceil(values * bins).astype(np.int64) - 1, 0, bins - 1)
    counts = np.bincount(places, minlength=bins)
    sums = np.bincount(places, weights=values, minlength=bins)
    good = np.bincount(places, weights=hits, minlength=bins)
    found = tuple(
        Bin(
            low=i / bins,
            high=(i + 1) / bins,
            count=int(counts[i]),
            confidence=float(sums[i] / counts[i]) if counts[i] else None,
            accuracy=float(good[i] / counts[i]) if counts[i] else None,
        )
        for i in range(bins)
    )
    return Reliability(found, float(np.abs(good - sums).sum() / len(values)), len(values))
