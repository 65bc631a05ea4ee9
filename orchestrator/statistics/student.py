"""Student's t of whole arrays, with numpy alone: reading results does not wait for scipy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray

    Array = NDArray[float64]

CLOSED = 200
"""Degrees of freedom up to which the closed form is summed; its terms number half of them."""


def cdf(t: Array, df: int) -> Array:
    """P(T <= t) for integer ``df``, to nine digits.

    By the closed form of Abramowitz & Stegun 26.7.3-4; of more degrees of freedom by Hill's transformation to
    a normal variable (Communications of the ACM 1970, algorithm 395).
    """
    import numpy as np

    assert df >= 1, "one degree of freedom or more"
    if df > CLOSED:
        tail = np.frompyfunc(lambda z: 0.5 * math.erfc(-z * math.sqrt(0.5)), 1, 1)
        found: Array = tail(_normal(t, df)).astype(np.float64)
        return found
    theta = np.arctan(t / math.sqrt(df))
    sine, square = np.sin(theta), np.cos(theta) ** 2
    odd = df % 2
    term = np.cos(theta) if odd else np.ones_like(theta)
    total = np.zeros_like(theta)
    for k in range(1, (df - odd) // 2 + 1):
        total += term
        term = term * square * (2 * k / (2 * k + 1) if odd else (2 * k - 1) / (2 * k))
    central = 2 / math.pi * (theta + sine * total) if odd else sine * total
    result: Array = 0.5 + central / 2
    return result


def density(t: Array, df: int) -> Array:
    """The density of Student's t."""
    half = (df + 1) / 2
    top = math.exp(math.lgamma(half) - math.lgamma(df / 2)) / math.sqrt(df * math.pi)
    found: Array = top * (1 + t**2 / df) ** -half
    return found


def _normal(t: Array, df: int) -> Array:
    """Of a t, the standard normal variable that has as much below it."""
    import numpy as np

    a = df - 0.5
    b = 48 * a**2
    y = a * np.log1p(t**2 / df)
    z = (((((-0.4 * y - 3.3) * y - 24) * y - 85.5) / (0.8 * y**2 + 100 + b) + y + 3) / b + 1) * np.sqrt(y)
    found: Array = np.copysign(z, t)
    return found
