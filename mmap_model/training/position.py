"""Where a run stands within an epoch: written by the thread that trains, read by others while it does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass
class Position:
    """How far a run is.

    Attributes:
        stage: what it does: training steps, or batches of validation images.
        epoch: in work, 1-based; 0 before the first step.
        step, steps: behind it in this stage of the epoch, and in all.
    """

    stage: Literal["training", "validation"]
    epoch: int
    step: int = 0
    steps: int = 0
