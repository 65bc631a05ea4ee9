"""Where slots go: arithmetic over the nodes of a cluster. No Ray in it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from cluster.nodes import Node
from orchestrator.slots.cluster import TRIAL_CPUS

Count = Literal["auto"] | int
"""How many slots: a number, or as many as there is room for."""


@dataclass(frozen=True)
class SlotSize:
    """What one slot takes of its node: cores and GPUs, fractions allowed."""

    cpus: float
    gpus: float

    def fits(self, node: Node) -> int:
        """How many a node carries."""
        return self.fit(node.cpus, node.gpus)

    def fit(self, cpus: float, gpus: float) -> int:
        """How many these cores and GPUs carry, each with its trial's share of a core beside it."""
        by_cpus = int((cpus + 1e-9) / (self.cpus + TRIAL_CPUS))
        return by_cpus if not self.gpus else min(by_cpus, int(gpus / self.gpus + 1e-9))

    @classmethod
    def of(cls, cpus: float, gpus: float | Literal["auto"], nodes: Sequence[Node]) -> SlotSize:
        """``auto`` is a whole GPU if any node has one, else none."""
        return cls(cpus, float(any(node.gpus >= 1 for node in nodes)) if gpus == "auto" else gpus)


@dataclass(frozen=True)
class SlotPlacement:
    """A slot's name and the node that it is pinned to.

    Attributes:
        name: shown everywhere, unique among the slots that are.
        node: Ray's id; empty on a Ray of one machine, where nothing has to be pinned.
        shown: the node as people know it.
    """

    name: str
    node: str = ""
    shown: str = ""


def further(
    nodes: Sequence[Node], held: Mapping[str, int], size: SlotSize, count: Count, room: Mapping[str, int]
) -> list[str]:
    """Ids of the nodes that get one more slot each, a node as often as it gets one.

    Args:
        nodes: that live; those that will be taken away get nothing.
        held: slots by node id, whether they are up or not.
        size: of a slot.
        count: ``auto`` fills every node. A number is spread evenly, on nodes with room now before others and
            on the head last; slots that are there stay where they are.
        room: how many more slots each node carries beside what others use of it at the moment.
    """
    open_nodes = [node for node in nodes if not node.draining]
    left = {node.id: max(0, size.fits(node) - held.get(node.id, 0)) for node in open_nodes}
    if count == "auto":
        return [node.id for node in open_nodes for _ in range(left[node.id])]
    order = {node.id: (node.head, index) for index, node in enumerate(open_nodes)}
    given: dict[str, int] = dict.fromkeys(left, 0)
    chosen: list[str] = []
    while len(chosen) < count - sum(held.values()):
        able = [node for node in left if given[node] < left[node]]
        if not able:
            break

        def rank(node: str) -> tuple[bool, int, tuple[bool, int]]:
            return given[node] >= room.get(node, left[node]), held.get(node, 0) + given[node], order[node]

        best = min(able, key=rank)
        given[best] += 1
        chosen.append(best)
    return chosen


def name_of(node: Node, nodes: Collection[Node], taken: Collection[str]) -> str:
    """A new slot's name: its node's, and the first free number."""
    shown = shown_name(node, nodes)
    return next(name for i in range(len(taken) + 1) if (name := f"{shown}:{i}") not in taken)


def shown_name(node: Node, nodes: Collection[Node]) -> str:
    """A node as people know it: its host name, or its address where host names are not unique."""
    alike = [other for other in nodes if other.host == node.host]
    return node.host if node.host and len(alike) < 2 else node.address
