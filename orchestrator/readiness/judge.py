"""What the answers of all nodes mean for a study: plain rules, no Ray."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cluster.nodes import Node
from orchestrator.readiness.probe import NodeAnswer
from orchestrator.slots.placement import SlotSize
from orchestrator.study import Study

HEAD_BASE = 1.5 * 2**30
"""Bytes of the driver with Ray, Tune, Optuna and MLflow in it."""

HEAD_PER_SLOT = 0.5 * 2**30
"""Bytes beside the driver for each slot: its Train controller and synchronisation actor."""

CLOCKS = 5.0
"""Seconds by which clocks may differ before times in records of several nodes mislead who compares them."""

ReadinessState = Literal["ok", "warning", "error"]


@dataclass(frozen=True, kw_only=True)
class ReadinessFinding:
    """One line of the report."""

    name: str
    state: ReadinessState
    text: str
    fix: str = ""


def judge(
    study: Study,
    nodes: Sequence[Node],
    answers: Mapping[str, NodeAnswer | Exception],
    marks: Mapping[str, str],
    unseen: Mapping[str, Sequence[str]],
    *,
    tracking: str,
    lacks: Sequence[str] = (),
    token: bool,
    free: Mapping[str, Mapping[str, float]] | None = None,
) -> list[ReadinessFinding]:
    """Findings, one per question.

    Args:
        study: what is to run.
        nodes: of the cluster, the head first.
        answers: by node id.
        marks: by node id, why it could not write to the storage; empty where it could.
        unseen: by node id, ids of nodes whose files it does not see.
        tracking: why the tracking store cannot be used from here; empty if it can.
        lacks: what it cannot do, a sentence each.
        token: whether the cluster authenticates.
        free: what nobody uses at the moment, by node id and resource; a missing node counts as unused.
    """
    heard = {node.id: a for node in nodes if isinstance(a := answers.get(node.id), NodeAnswer)}
    names = {node.id: _name(node, heard.get(node.id)) for node in nodes}
    slots = slots_per_node(study, nodes)
    return [
        _nodes(nodes, heard, answers, names),
        _slots(study, slots, slots_free(study, nodes, free or {}), names),
        _gpus(nodes, heard, names),
        _head(study, nodes, heard, sum(slots.values())),
        _storage(names, marks, unseen),
        ReadinessFinding(
            name="tracking",
            state="error" if tracking else "ok",
            text=tracking or ". ".join(["reachable from here", *lacks]),
            fix="give tracking.uri an address that the head node reaches" if tracking else "",
        ),
        _versions(heard, names),
        _places(heard, names),
        _weights(heard, names),
        _clocks(heard, names),
        ReadinessFinding(
            name="token",
            state="ok" if token else "warning",
            text="authentication is on" if token else "everybody who reaches this cluster can run code on it",
            fix="" if token else "start all nodes with RAY_AUTH_MODE=token",
        ),
    ]


def slots_per_node(study: Study, nodes: Sequence[Node]) -> dict[str, int]:
    """How many slots each node carries: a slot lies on one node, with its trial's share of a core."""
    size = SlotSize.of(study.slots.cpus, study.slots.gpus, nodes)
    return {node.id: size.fits(node) for node in nodes}


def slots_free(
    study: Study, nodes: Sequence[Node], free: Mapping[str, Mapping[str, float]]
) -> dict[str, int]:
    """How many slots each node carries beside what is used of it at the moment."""
    size = SlotSize.of(study.slots.cpus, study.slots.gpus, nodes)
    room = {node.id: free.get(node.id, {"CPU": node.cpus, "GPU": node.gpus}) for node in nodes}
    return {node: size.fit(left.get("CPU", 0.0), left.get("GPU", 0.0)) for node, left in room.items()}


def _nodes(
    nodes: Sequence[Node],
    heard: Mapping[str, NodeAnswer],
    answers: Mapping[str, Any],
    names: Mapping[str, str],
) -> ReadinessFinding:
    silent = [node.id for node in nodes if node.id not in heard]
    if silent:
        reason = str(answers.get(silent[0]) or "no answer").strip().splitlines()
        return ReadinessFinding(
            name="nodes",
            state="error",
            text=f"{names[silent[0]]} does not answer: {reason[-1] if reason else 'no answer'}",
            fix="look at that node's logs; every node needs this software and its dependencies",
        )
    return ReadinessFinding(name="nodes", state="ok", text=f"{len(nodes)}: {', '.join(names.values())}")


def _slots(
    study: Study, slots: Mapping[str, int], free: Mapping[str, int], names: Mapping[str, str]
) -> ReadinessFinding:
    most, now, wanted = sum(slots.values()), sum(free.values()), study.slots.count
    shown = ", ".join(f"{names[node]} {count}" for node, count in slots.items() if count)
    if not most or (wanted != "auto" and wanted > most):
        asked = "a single slot" if not most else f"{wanted} slots"
        size = f"{study.slots.cpus:g} cores and {study.slots.gpus} GPUs"
        return ReadinessFinding(
            name="slots",
            state="error" if not most else "warning",
            text=f"{asked} of {size}: {most} fit on all nodes together ({shown or 'none'})",
            fix="ask for smaller or fewer slots, or add nodes; an autoscaler adds them by itself",
        )
    if free == slots:
        return ReadinessFinding(name="slots", state="ok", text=f"{most} fit: {shown}")
    left = ", ".join(f"{names[node]} {count}" for node, count in free.items() if count)
    text = f"{most} fit on an empty cluster: {shown}; {now} fit now beside what runs: {left or 'none'}"
    if now >= (1 if wanted == "auto" else wanted):
        return ReadinessFinding(name="slots", state="ok", text=text)
    fix = "start it all the same: slots wait for what others use; or ask for fewer, or smaller ones"
    return ReadinessFinding(name="slots", state="warning", text=text, fix=fix)


def _gpus(
    nodes: Sequence[Node], heard: Mapping[str, NodeAnswer], names: Mapping[str, str]
) -> ReadinessFinding:
    total = sum(node.gpus for node in nodes)
    for node in nodes:
        answer = heard.get(node.id)
        if answer and answer.gpus != node.gpus:
            return ReadinessFinding(
                name="GPUs",
                state="warning",
                text=f"Ray counts {node.gpus:g} on {names[node.id]}, its driver shows {answer.gpus}",
                fix="start that node with --num-gpus, or install its NVIDIA driver",
            )
    return ReadinessFinding(
        name="GPUs", state="ok", text=f"{total:g}" if total else "none: slots will be CPU cores"
    )


def _head(
    study: Study, nodes: Sequence[Node], heard: Mapping[str, NodeAnswer], fitting: int
) -> ReadinessFinding:
    slots = fitting if study.slots.count == "auto" else study.slots.count
    need = HEAD_BASE + slots * HEAD_PER_SLOT
    head = heard.get(nodes[0].id)
    if head is None:
        return ReadinessFinding(name="head memory", state="warning", text="unknown: the head does not answer")
    text = f"{_gib(head.memory)} free, about {_gib(need)} wanted for the driver and {slots} slots"
    if head.memory >= need:
        return ReadinessFinding(name="head memory", state="ok", text=text)
    most = max(0, int((head.memory - HEAD_BASE) / HEAD_PER_SLOT))
    return ReadinessFinding(
        name="head memory", state="error", text=text, fix=f"use slots.count={most} or fewer, or a larger head"
    )


def _storage(
    names: Mapping[str, str], marks: Mapping[str, str], unseen: Mapping[str, Sequence[str]]
) -> ReadinessFinding:
    for node, reason in marks.items():
        if reason:
            return ReadinessFinding(
                name="storage",
                state="error",
                text=f"{names[node]} cannot write: {reason}",
                fix="give the user that Ray runs as the right to write there, on every node",
            )
    for node, others in unseen.items():
        if others:
            return ReadinessFinding(
                name="storage",
                state="error",
                text=f"{names[node]} does not see what {names[others[0]]} wrote: it is not the same place",
                fix="mount one shared folder under the same path on all nodes, or use s3://…",
            )
    count = len(marks)
    text = "written and read on one node" if count == 1 else f"written on each of {count} nodes, read on all"
    return ReadinessFinding(name="storage", state="ok", text=text)


def _versions(heard: Mapping[str, NodeAnswer], names: Mapping[str, str]) -> ReadinessFinding:
    by_version: dict[tuple[str, str], list[str]] = {}
    for node, answer in heard.items():
        for package, version in {"python": answer.python, **answer.versions}.items():
            by_version.setdefault((package, version), []).append(node)
    packages: dict[str, list[tuple[str, str]]] = {}
    for package, version in by_version:
        packages.setdefault(package, []).append((package, version))
    for package, found in packages.items():
        missing = len(heard) - sum(len(by_version[key]) for key in found)
        if len(found) > 1 or missing:
            shown = "; ".join(f"{version} on {names[by_version[(p, version)][0]]}" for p, version in found)
            return ReadinessFinding(
                name="versions",
                state="error",
                text=f"{package} differs: {shown}" + (f"; missing on {missing} nodes" if missing else ""),
                fix="install the same environment on all nodes: one image, or one uv sync",
            )
    return ReadinessFinding(name="versions", state="ok", text="equal on all nodes")


def _places(heard: Mapping[str, NodeAnswer], names: Mapping[str, str]) -> ReadinessFinding:
    for node, answer in heard.items():
        for key, path in answer.missing.items():
            return ReadinessFinding(
                name="data",
                state="error",
                text=f"{key}: {path} is not there on {names[node]}",
                fix="put it on storage that all nodes see under the same path",
            )
    return ReadinessFinding(name="data", state="ok", text="there on all nodes")


def _weights(heard: Mapping[str, NodeAnswer], names: Mapping[str, str]) -> ReadinessFinding:
    for node, answer in heard.items():
        if answer.weights:
            return ReadinessFinding(
                name="weights",
                state="error",
                text=f"{names[node]}: {answer.weights}",
                fix="set HF_HOME to a shared folder with them, or give backbone.pretrained a shared file",
            )
    return ReadinessFinding(name="weights", state="ok", text="present or fetchable on all nodes")


def _clocks(heard: Mapping[str, NodeAnswer], names: Mapping[str, str]) -> ReadinessFinding:
    if len(heard) < 2:
        return ReadinessFinding(name="clocks", state="ok", text="one node")
    middle = statistics.median(answer.time for answer in heard.values())
    node, worst = max(heard.items(), key=lambda item: abs(item[1].time - middle))
    off = worst.time - middle
    # Nodes are asked at the same time, but start a process for the answer.
    state: ReadinessState = "warning" if abs(off) > CLOCKS + 10.0 else "ok"
    return ReadinessFinding(
        name="clocks",
        state=state,
        text=f"{names[node]} is {off:+.0f} s off" if state == "warning" else "close enough",
        fix="run a time service on all nodes: records carry the time of the node that wrote them"
        if state == "warning"
        else "",
    )


def _name(node: Node, answer: NodeAnswer | None) -> str:
    name = node.address if answer is None else f"{answer.host} ({node.address})"
    return f"{name}, head" if node.head else name


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"
