"""Which trial would be first without each of the seeds: with three of them one lucky draw can decide."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.statistics.ranking import MeasuredRow


@dataclass(frozen=True, kw_only=True)
class Stability:
    """The first of a ranking if one seed is left out.

    Attributes:
        winner: number of the first with all seeds.
        without: number of the first, by the seed that is left out.
    """

    winner: int
    without: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        return {"winner": self.winner, "without": dict(self.without)}


def stability(rows: Sequence[MeasuredRow]) -> Stability | None:
    """Leave each seed out in turn; None where there are not two complete trials on two seeds.

    Ties are broken as in the ranking: by fewer parameters, then by number.

    Args:
        rows: of the ranking, the first first.
    """
    complete = [row for row in rows if row.competes]
    seeds = list(complete[0].seeds) if complete else []
    if len(complete) < 2 or len(seeds) < 2:
        return None
    return Stability(
        winner=complete[0].trial.number,
        without={seed: _first(complete, seed) for seed in seeds},
    )


def _first(rows: Sequence[MeasuredRow], without: str) -> int:
    def place(row: MeasuredRow) -> tuple[float, int, int]:
        values = [value for seed, value in row.seeds.items() if seed != without]
        mean = math.fsum(values) / len(values) if values else -math.inf
        return -mean, row.trial.parameters or 0, row.trial.number

    return min(map(place, rows))[2]
