"""Slots that follow nodes which come and go; runs are stand-ins, no Ray."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from cluster.nodes import Node
from orchestrator.slots.membership import Membership
from orchestrator.slots.placement import SlotPlacement, SlotSize

HEAD = Node(id="h", address="10.0.0.1", head=True, cpus=4, gpus=0, memory=0, host="head")
FIRST = Node(id="a1", address="10.0.0.2", head=False, cpus=4, gpus=2, memory=0, host="a")
SECOND = Node(id="b1", address="10.0.0.3", head=False, cpus=4, gpus=2, memory=0, host="b")


class Runs:
    """Slots that come up and go at once, unless they are told to be slow."""

    def __init__(self) -> None:
        self.open_places: dict[str, SlotPlacement] = {}
        self.going: dict[str, SlotPlacement] = {}
        self.said: list[tuple[str, str]] = []

    def places(self) -> Sequence[SlotPlacement]:
        return list(self.open_places.values())

    def leaving(self) -> Sequence[SlotPlacement]:
        return list(self.going.values())

    def open(self, place: SlotPlacement) -> None:
        assert place.name not in {**self.open_places, **self.going}
        self.open_places[place.name] = place
        self.said.append(("open", place.name))

    def drain(self, name: str) -> None:
        self.going[name] = self.open_places.pop(name)
        self.said.append(("drain", name))

    def lose(self, name: str) -> None:
        self.open_places.pop(name, None)
        self.going.pop(name, None)
        self.said.append(("lose", name))


class Cluster:
    """A membership with nodes that a test sets."""

    def __init__(self, *nodes: Node, count: Any = "auto") -> None:
        self.nodes, self.runs = list(nodes), Runs()
        self.notes: list[str] = []
        self.asked: list[int] = []
        self.membership = Membership(
            self.runs,
            nodes=lambda: self.nodes,
            free=lambda size: {},
            size=SlotSize(1, 1),
            count=count,
            demand=self.asked.append,
            note=self.notes.append,
        )
        self.membership.look()

    def look(self, *nodes: Node) -> list[tuple[str, str]]:
        self.nodes = list(nodes)
        self.runs.said.clear()
        self.membership.look()
        return self.runs.said


def test_every_node_gets_the_slots_that_fit_and_nothing_changes_while_they_stay() -> None:
    cluster = Cluster(HEAD, FIRST, SECOND)
    assert [name for _, name in cluster.runs.said] == ["a:0", "a:1", "b:0", "b:1"]
    assert cluster.runs.places()[0] == SlotPlacement("a:0", "a1", "a")
    assert cluster.look(HEAD, FIRST, SECOND) == []
    assert cluster.notes == [] and cluster.asked == [0, 0]


def test_a_node_that_leaves_loses_its_own_slots_and_gets_others_when_it_is_back() -> None:
    cluster = Cluster(HEAD, FIRST, SECOND)
    assert cluster.look(HEAD, FIRST) == [("lose", "b:0"), ("lose", "b:1")]
    back = replace(SECOND, id="b2")
    assert cluster.look(HEAD, FIRST, back) == [("open", "b:0"), ("open", "b:1")]
    assert {place.node for place in cluster.runs.places()} == {"a1", "b2"}
    assert cluster.notes == [
        "Node b is gone with its 2 slots; their cells are rescheduled",
        "Node b gets 2 slots",
    ]


def test_a_node_that_came_back_between_two_looks_is_another_one() -> None:
    cluster = Cluster(HEAD, SECOND)
    said = cluster.look(HEAD, replace(SECOND, id="b2"))
    assert said == [("lose", "b:0"), ("lose", "b:1"), ("open", "b:0"), ("open", "b:1")]


def test_a_node_that_will_be_taken_away_is_drained_once_and_then_lost() -> None:
    cluster = Cluster(HEAD, FIRST, SECOND)
    leaving = replace(SECOND, draining=True)
    assert cluster.look(HEAD, FIRST, leaving) == [("drain", "b:0"), ("drain", "b:1")]
    assert cluster.look(HEAD, FIRST, leaving) == []
    del cluster.runs.going["b:0"]  # it has saved and left
    assert cluster.look(HEAD, FIRST) == [("lose", "b:1")]
    assert cluster.notes == ["Node b will be taken away: its 2 slots save and leave"]


def test_a_number_of_slots_moves_from_a_lost_node_to_one_with_room() -> None:
    cluster = Cluster(HEAD, FIRST, SECOND, count=2)
    assert [name for _, name in cluster.runs.said] == ["a:0", "b:0"]
    assert cluster.look(HEAD, FIRST) == [("lose", "b:0"), ("open", "a:1")]
    assert cluster.look(HEAD, FIRST, SECOND) == [], "there are two"


def test_slots_without_a_node_are_asked_of_the_autoscaler() -> None:
    cluster = Cluster(HEAD, FIRST, count=5)
    assert cluster.asked == [3]
    cluster.look(HEAD, FIRST, SECOND)
    assert cluster.asked[-1] == 1
    assert cluster.notes == ["2 of 5 slots find a node, the others wait for one", "Node b gets 2 slots"]
    waiting = Cluster(HEAD)
    assert waiting.asked == [1], "one slot at least"
    waiting.look(HEAD)
    assert waiting.notes == ["No node carries a slot of 1 cores and 1 GPUs; waiting for one"]


def test_a_look_that_fails_is_no_reason_to_lose_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrator.slots import membership

    monkeypatch.setattr(membership, "LOOK_S", 0.001)
    cluster = Cluster(HEAD, FIRST)
    looks: list[int] = []

    def nodes() -> list[Node]:
        looks.append(1)
        if len(looks) == 2:
            raise RuntimeError("the head restarts")
        if len(looks) > 3:
            cluster.membership._over.set()
        return [HEAD, FIRST]

    cluster.membership._nodes = nodes
    cluster.membership.start()
    cluster.membership._thread.join(10)
    assert len(looks) > 3 and [name for _, name in cluster.runs.said] == ["a:0", "a:1"]
