"""What a worker does at a moment, and how far it is. Light to import: it travels to whoever follows a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

WorkStage = Literal[
    "importing",
    "backbone",
    "data",
    "preparing",
    "waiting",
    "probe",
    "training",
    "validation",
    "saving",
    "test",
]

STAGES: dict[WorkStage, str] = {
    "importing": "importing torch and open_clip",
    "backbone": "loading the backbone",
    "data": "loading the data",
    "preparing": "preparing",
    "waiting": "waiting for another worker that measures the same",
    "probe": "measuring task affinity",
    "training": "training",
    "validation": "evaluating on validation images",
    "saving": "saving results",
    "test": "scoring on the test images",
}
"""In words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Doing:
    """What a worker does.

    Attributes:
        stage: a word for it; ``STAGES`` has more of them.
        epoch, epochs: the one in work, 1-based, and how many there are; 0: none.
        step, steps: steps, or batches of images, behind it in this stage and in all; ``steps`` 0: not known.
        cells: in work together.
        gpu_busy: share of the last seconds in which its GPU computed, 0 … 1; None where that is not known.
        gpu_bytes: in use on its GPU, by all its processes; None where that is not known.
    """

    stage: WorkStage
    epoch: int = 0
    epochs: int = 0
    step: int = 0
    steps: int = 0
    cells: int = 0
    gpu_busy: float | None = None
    gpu_bytes: int | None = None

    @property
    def position(self) -> tuple[object, ...]:
        """How far it is: what counts as progress when it changes."""
        return self.stage, self.epoch, self.step, self.steps, self.cells
