"""Asks an autoscaler for room. Slots that find no node are not started: nothing else speaks for them."""

from __future__ import annotations

from typing import Any

from orchestrator.slots.cluster import TRIAL_CPUS
from orchestrator.slots.placement import SlotSize


class Demand:
    """One placement group for every slot that finds no node; given up as soon as there is a node for it.

    Args:
        size: of a slot.
    """

    def __init__(self, size: SlotSize) -> None:
        self._bundle = {"CPU": size.cpus + TRIAL_CPUS, **({"GPU": size.gpus} if size.gpus else {})}
        self._asked: list[Any] = []

    def __call__(self, missing: int) -> None:
        """Ask for room for this many slots, all in all."""
        from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group

        while len(self._asked) < missing:
            self._asked.append(placement_group([self._bundle]))
        if len(self._asked) > missing:  # those first that hold the room which a slot waits for
            self._asked.sort(key=lambda group: placement_group_table(group)["state"] == "CREATED")
        while len(self._asked) > missing:
            remove_placement_group(self._asked.pop())
