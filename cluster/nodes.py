"""The nodes of a running cluster, and the same question put to each of them at the same time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

ANSWER_S = 120.0
"""Seconds that a node has for an answer, the start of a process for it included."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """A living node, as Ray counts it.

    Attributes:
        id: Ray's, hexadecimal.
        address: its IP address.
        host: its name, not always unique.
        head: the cluster's head.
        draining: it will be taken away soon, as Ray was told.
        cpus, gpus: logical resources.
        memory: bytes that Ray schedules by.
    """

    id: str
    address: str
    head: bool
    cpus: float
    gpus: float
    memory: float
    host: str = ""
    draining: bool = False


def living_nodes() -> list[Node]:
    """The nodes of the Ray that this process is connected to, the head first. Two short calls of its head."""
    import ray
    from ray._private.state import state

    leaving = state.get_draining_nodes()
    found = [_node(entry, entry["NodeID"] in leaving) for entry in ray.nodes() if entry["Alive"]]
    return sorted(found, key=lambda node: (not node.head, node.address, node.id))


def free_resources() -> dict[str, dict[str, float]]:
    """What nobody uses at the moment, by node id and resource; a node that just joined may be missing."""
    from ray._private.state import available_resources_per_node

    found: dict[str, dict[str, float]] = available_resources_per_node()
    return found


def ask_every(
    nodes: list[Node], question: Callable[..., Any], arguments: Callable[[Node], tuple[Any, ...]]
) -> dict[str, Any]:
    """Answers by node id; an exception where a node could not answer.

    Args:
        nodes: to be asked, all at the same time.
        question: an importable function.
        arguments: of it, by node.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    asked = ray.remote(num_cpus=0, max_retries=0)(question)
    answers = {
        node.id: asked.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)
        ).remote(*arguments(node))
        for node in nodes
    }
    found: dict[str, Any] = {}
    for node_id, answer in answers.items():
        try:
            found[node_id] = ray.get(answer, timeout=ANSWER_S)
        except Exception as error:
            found[node_id] = error
    return found


def _node(entry: Mapping[str, Any], draining: bool) -> Node:
    resources = entry["Resources"]
    return Node(
        id=entry["NodeID"],
        address=entry["NodeManagerAddress"],
        head="node:__internal_head__" in resources,
        cpus=resources.get("CPU", 0.0),
        gpus=resources.get("GPU", 0.0),
        memory=resources.get("memory", 0.0),
        host=entry.get("NodeManagerHostname", ""),
        draining=draining,
    )
