"""Made-up studies: trials and the records of their cells, as a driver writes them, and the truth."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.ledger import TrialRecord
from orchestrator.statistics.selftest.noise import Noise

DEVIATION = 0.01
"""σ, the residual standard deviation of made-up accuracies; its size changes nothing."""

BLOCK_SPREAD = 0.03
"""Standard deviation of what all configurations share at a seed."""

LEVEL = 0.5


@dataclass(frozen=True, kw_only=True)
class MadeStudy:
    """One study.

    Attributes:
        trials: complete ones, numbered from 0.
        records: of their cells, by key.
        truths: by trial, the accuracy that it would have on these blocks without noise.
    """

    trials: Sequence[TrialRecord]
    records: dict[str, dict[str, Any]]
    truths: Sequence[float]


def make_study(
    effects: Sequence[float],
    *,
    noise: Noise,
    rng: random.Random,
    seeds: int = 3,
    splits: int = 1,
    images: int | None = None,
) -> MadeStudy:
    """Draw a study.

    Args:
        effects: of the configurations, in residual standard deviations.
        noise: of their values, of variance 1.
        rng: of the levels of the blocks and of the noise.
        seeds, splits: whose product is the number of blocks.
        images: accuracies are counts over so many; None leaves them continuous.
    """
    blocks = [(f"{p}-shot", str(s)) for p in range(splits) for s in range(seeds)]
    levels = {block: rng.gauss(0, BLOCK_SPREAD) for block in blocks}
    residuals = noise.residuals(rng, len(effects), len(blocks))
    trials, records = [], {}
    for number, (effect, row) in enumerate(zip(effects, residuals, strict=True)):
        cells = []
        for (split, seed), residual in zip(blocks, row, strict=True):
            accuracy = LEVEL + levels[split, seed] + DEVIATION * effect + DEVIATION * residual
            if images:
                accuracy = round(accuracy * images) / images
            key = f"{number}-{split}-{seed}"
            cells.append({"key": key, "split": split, "seed": seed})
            records[key] = {"metrics": {"accuracy": accuracy}}
        trials.append(TrialRecord(number=number, state="complete", cells=cells, created_at=""))
    shared = LEVEL + math.fsum(levels.values()) / len(blocks)
    return MadeStudy(
        trials=trials, records=records, truths=[shared + DEVIATION * effect for effect in effects]
    )
