"""Slots follow a cluster's nodes: one that joins gets slots, one that leaves loses its own. No Ray in it."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from cluster.nodes import Node
from orchestrator.slots.placement import Count, SlotPlacement, SlotSize, further, name_of, shown_name

LOOK_S = 2.0
"""Seconds between two looks at the nodes."""

logger = logging.getLogger(__name__)


class Runs(Protocol):
    """The runs of slots: ``orchestrator.slots.slots.ResidentSlots``."""

    def places(self) -> Sequence[SlotPlacement]:
        """Of slots that run, and of those that stopped for good."""
        ...

    def leaving(self) -> Sequence[SlotPlacement]:
        """Of slots that have been told to go and have not gone yet."""
        ...

    def open(self, place: SlotPlacement) -> None: ...
    def drain(self, name: str) -> None: ...
    def lose(self, name: str) -> None: ...


class Membership:
    """Looks at the nodes every few seconds and opens, drains and gives up slots.

    Ray's word counts: a node is gone once Ray's head says so, 15 s after its processes were killed and about
    a minute after it fell silent. A node that comes back is a new node to Ray, and here too.

    Args:
        runs: the slots.
        nodes: those that live.
        free: how many more slots each node carries beside what others use of it, by node id.
        size: of a slot.
        count: of slots.
        demand: told how many slots find no node, so that an autoscaler may add some.
        note: takes what the user should know.
    """

    def __init__(
        self,
        runs: Runs,
        *,
        nodes: Callable[[], Sequence[Node]],
        free: Callable[[SlotSize], Mapping[str, int]],
        size: SlotSize,
        count: Count,
        demand: Callable[[int], None],
        note: Callable[[str], None],
    ) -> None:
        self._runs, self._nodes, self._free = runs, nodes, free
        self._size, self._count, self._demand, self._note = size, count, demand, note
        self._looked = False
        self._waiting = False
        self._missing = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="nodes", daemon=True)

    def start(self) -> None:
        """Look once, so that first slots start now, and go on in a thread."""
        self.look()
        self._thread.start()

    def stop(self) -> None:
        """Open and give up nothing any more."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join(2 * LOOK_S)

    def look(self) -> None:
        """Bring the slots in line with the nodes."""
        nodes = self._nodes()
        by_id = {node.id: node for node in nodes}
        gone: Counter[str] = Counter()
        drained: Counter[str] = Counter()
        for place in self._runs.places():
            node = by_id.get(place.node)
            if node is None:
                gone[place.shown] += 1
                self._runs.lose(place.name)
            elif node.draining:
                drained[place.shown] += 1
                self._runs.drain(place.name)
        for place in self._runs.leaving():
            if place.node not in by_id:
                self._runs.lose(place.name)
        for shown, number in gone.items():
            self._note(f"Node {shown} is gone with its {_slots(number)}; their cells are rescheduled")
        for shown, number in drained.items():
            self._note(f"Node {shown} will be taken away: its {_slots(number)} save and leave")
        self._fill(nodes)
        self._looked = True

    def _fill(self, nodes: Sequence[Node]) -> None:
        held = Counter(place.node for place in self._runs.places())
        room = {} if self._count == "auto" else self._free(self._size)
        taken = {place.name for place in [*self._runs.places(), *self._runs.leaving()]}
        joined: Counter[str] = Counter()
        by_id = {node.id: node for node in nodes}
        for node_id in further(nodes, held, self._size, self._count, room):
            node = by_id[node_id]
            place = SlotPlacement(name_of(node, nodes, taken), node_id, shown_name(node, nodes))
            taken.add(place.name)
            self._runs.open(place)
            held[node_id] += 1
            joined[place.shown] += 1
        if self._looked:
            for shown, number in joined.items():
                self._note(f"Node {shown} gets {_slots(number)}")
        wanted = 1 if self._count == "auto" else self._count
        missing = max(0, wanted - sum(held.values()))
        self._demand(missing)
        if held and missing and not self._missing:
            self._note(f"{sum(held.values())} of {wanted} slots find a node, the others wait for one")
        self._missing = missing
        if not held and not self._waiting:
            size = f"{self._size.cpus:g} cores and {self._size.gpus:g} GPUs"
            self._note(f"No node carries a slot of {size}; waiting for one")
        self._waiting = not held

    def _watch(self) -> None:
        while not self._over.wait(LOOK_S):
            try:
                self.look()
            except Exception:
                # The head may be busy, or restarting: the next look will tell.
                logger.warning("The nodes could not be inspected", exc_info=True)


def _slots(number: int) -> str:
    return f"{number} slot" + ("s" if number > 1 else "")
