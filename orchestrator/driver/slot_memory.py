"""Whether slots that share a GPU fit into its memory, from what their workers measure."""

from __future__ import annotations

import math

from orchestrator.work.events import SlotMeasured

GIB = 2**30


class SlotMemory:
    """Takes the workers' reports and warns once, before work fails for want of memory.

    Args:
        gpus: of a slot; fractions share a GPU.
    """

    def __init__(self, gpus: float = 0.0) -> None:
        self._sharing = int(1 / gpus + 1e-9) if 0 < gpus < 1 else 1
        self._gpus = gpus
        self._warned = False

    def take(self, event: SlotMeasured) -> str | None:
        """What the user should know after a report; None if all is well."""
        peak, total = event.peak, event.total
        if self._warned or self._sharing * peak <= total:
            return None
        self._warned = True
        fitting = int(total // peak)
        share = math.floor(1000 / fitting) / 1000 if fitting > 1 else 1
        return (
            f"{self._sharing} slots share a GPU of {total / GIB:.1f} GiB (slots.gpus={self._gpus:g}), and "
            f"slot {event.slot} alone had {peak / GIB:.1f} GiB of it: together they do not fit. "
            f"Fix: run again with slots.gpus={share:g}"
        )
