"""Residual noise: by how much a configuration varies over the seeds, apart from what all share at a seed.

In the additive model y = configuration + block + e, a block being a seed or a seed and a split, the residuals
e of all configurations together estimate one σ: s² = Σe²/ν. The difference of two configurations at one seed
then varies by σ·√2. Tables may be incomplete: a configuration needs no more than some of the blocks.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TypeVar

from orchestrator.statistics.cochran import ROUNDING

R = TypeVar("R", bound=Hashable)
B = TypeVar("B", bound=Hashable)

ValueTable = Mapping[R, Mapping[B, float]]
"""Values by configuration and block; each configuration has one value or more."""


@dataclass(frozen=True, kw_only=True)
class ResidualNoise:
    """An estimate of the residual standard deviation.

    Attributes:
        s: residual standard deviation of one value, in the unit of the values; 0 or more.
        nu: its degrees of freedom, at least 1.
    """

    s: float
    nu: int

    @property
    def is_zero(self) -> bool:
        """Whether the values differ by rounding alone."""
        return self.s < ROUNDING

    def upper(self, level: float = 0.8) -> float:
        """The limit that σ does not exceed with probability ``level``: s·√(ν/χ²(1 − level; ν)).

        Args:
            level: in (0, 1).
        """
        from scipy.special import chdtri

        assert 0 < level < 1, "a probability"
        return self.s * math.sqrt(self.nu / float(chdtri(self.nu, level)))

    def to_dict(self) -> dict[str, float | int]:
        return asdict(self)


def pooled_noise(table: ValueTable[R, B]) -> ResidualNoise | None:
    """Estimate the residual of the additive model by least squares, of complete and incomplete tables.

    ν is the number of values less that of free levels of configurations and blocks: (k − 1)(n − 1) if k
    configurations have the same n blocks. A configuration or block with a single value adds nothing.

    Returns:
        s and ν; None where no degree of freedom is left.
    """
    import numpy as np

    blocks = list(dict.fromkeys(block for row in table.values() for block in row))
    values = np.array([[row.get(b, math.nan) for b in blocks] for row in table.values()], dtype=np.float64)
    if not values.size:
        return None
    known = ~np.isnan(values)
    counts = known.sum(1)
    centred = np.where(known, values - np.nansum(values, 1, keepdims=True) / counts[:, None], 0.0)
    # Normal equations of the blocks once the configurations' means are taken out.
    mask = known.astype(np.float64)
    normal = np.diag(mask.sum(0)) - mask.T @ (mask / counts[:, None])
    levels, _, rank, _ = np.linalg.lstsq(normal, centred.sum(0), rcond=1e-9)
    shifted = np.where(known, centred - levels[None, :], 0.0)
    residuals = np.where(known, shifted - shifted.sum(1, keepdims=True) / counts[:, None], 0.0)
    nu = int(known.sum()) - len(values) - int(rank)
    return None if nu < 1 else ResidualNoise(s=math.sqrt(float((residuals**2).sum()) / nu), nu=nu)


def combined(noises: Iterable[ResidualNoise]) -> ResidualNoise | None:
    """One estimate from independent ones of the same σ: s² = Σ νᵢsᵢ² / Σ νᵢ; None without any."""
    found = list(noises)
    nu = sum(noise.nu for noise in found)
    if not nu:
        return None
    return ResidualNoise(s=math.sqrt(math.fsum(noise.nu * noise.s**2 for noise in found) / nu), nu=nu)
