"""How a cell is computed, never what: all give the same numbers up to the order of sums. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal

from mmap_model.errors import require
from mmap_model.revisions import added_field


@dataclass(frozen=True, kw_only=True)
class Execution:
    """Choices that trade time and memory; provenance of a cell, no part of its identity.

    Attributes:
        compile: ``graphs``: a training step is recorded as a CUDA graph and replayed, which gives the same
            numbers and costs one step of waiting (nothing to do on the CPU). ``on``: torch compiles the
            layers of the towers too, which waits for a compiler and changes the order of sums. ``off``:
            neither.
        checkpoint: keep only the input of each layer for the backward pass and compute the layer again;
            methods that train tensors of the CLIP itself do not.
        max_memory_gb: that a step may take on the device, backbone included; it is computed in as many parts
            as that asks for. None: what the GPU has free, on the CPU this process's share of the machine.
    """

    compile: Literal["off", "on", "graphs"] = "graphs"
    checkpoint: bool = False
    max_memory_gb: float | None = None
    evaluate: Literal["every", "rungs", "last"] = added_field("every")
    rungs: tuple[int, ...] = added_field(())

    def __post_init__(self) -> None:
        require(
            self.max_memory_gb is None or 0 < self.max_memory_gb < inf,
            "compute.max_memory_gb",
            self.max_memory_gb,
            "use null or a positive number of gigabytes",
        )
        require(all(epoch >= 1 for epoch in self.rungs), "compute.rungs", self.rungs, "count epochs from 1")
        require(
            not self.rungs or self.evaluate == "rungs",
            "compute.rungs",
            self.rungs,
            "add evaluate: rungs, which is what they are for",
        )

    def replays(self, device: str) -> bool:
        """Whether steps on a kind of device (``cpu``, ``cuda``) are recorded and replayed."""
        return device == "cuda" and self.compile != "off"

    def evaluates(self, epoch: int, epochs: int) -> bool:
        """Whether the validation images are scored after ``epoch`` (1-based) of ``epochs``."""
        if self.evaluate == "every" or epoch == epochs:
            return True
        return self.evaluate == "rungs" and epoch in self.rungs


DEFAULT_EXECUTION = Execution()
