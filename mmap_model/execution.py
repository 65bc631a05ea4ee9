"""How a cell is computed, never what: all give the same numbers up to the order of sums. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal

from mmap_model.errors import require


@dataclass(frozen=True, kw_only=True)
class Execution:
    """Choices that trade time and memory; provenance of a cell, no part of its identity.

    Attributes:
        compile: let torch compile the towers (``on``), with CUDA graphs too (``graphs``), or not (``off``).
        checkpoint: keep only the input of each layer for the backward pass and compute the layer again;
            methods that train tensors of the CLIP itself do not.
        max_memory_gb: that a step may take on the device, backbone included; it is computed in as many parts
            as that asks for. None: what the GPU has free, on the CPU this process's share of the machine.
    """

    compile: Literal["off", "on", "graphs"] = "off"
    checkpoint: bool = False
    max_memory_gb: float | None = None

    def __post_init__(self) -> None:
        require(
            self.max_memory_gb is None or 0 < self.max_memory_gb < inf,
            "compute.max_memory_gb",
            self.max_memory_gb,
            "use null or a positive number of gigabytes",
        )


DEFAULT_EXECUTION = Execution()
