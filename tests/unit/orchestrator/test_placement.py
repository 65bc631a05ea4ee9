"""Where slots go on nodes that are made up; no Ray."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from cluster.nodes import Node
from orchestrator.slots.placement import SlotSize, further, name_of

WHOLE = SlotSize(cpus=1, gpus=1)


def node(name: str, *, cpus: float = 8, gpus: float = 0, head: bool = False, draining: bool = False) -> Node:
    return Node(
        id=name,
        address=f"10.0.0.{ord(name[0])}",
        head=head,
        cpus=cpus,
        gpus=gpus,
        memory=0,
        host=name,
        draining=draining,
    )


def test_a_slot_takes_a_gpu_or_a_share_of_one_or_cores_beside_those_of_its_trial() -> None:
    assert WHOLE.fits(node("a", cpus=8, gpus=4)) == 4
    assert SlotSize(1, 0.25).fits(node("a", cpus=16, gpus=2)) == 8
    assert SlotSize(1, 0.3).fits(node("a", cpus=16, gpus=1)) == 3
    assert SlotSize(1, 0).fits(node("a", cpus=4)) == 3, "1.1 cores each"
    assert WHOLE.fits(node("a", cpus=2, gpus=4)) == 1, "there are no cores for more"


def test_auto_is_a_whole_gpu_where_any_node_has_one() -> None:
    assert SlotSize.of(1, "auto", [node("a"), node("b", gpus=2)]) == WHOLE
    assert SlotSize.of(2, "auto", [node("a")]) == SlotSize(2, 0)
    assert SlotSize.of(1, 0.25, []) == SlotSize(1, 0.25)


def test_auto_fills_what_is_left_of_every_node() -> None:
    nodes = [node("head", head=True), node("a", gpus=2), node("b", gpus=4)]
    assert further(nodes, {"a": 2, "b": 1}, WHOLE, "auto", {}) == ["b"] * 3


def test_a_node_that_will_be_taken_away_gets_nothing() -> None:
    nodes = [node("a", gpus=2, draining=True), node("b", gpus=1)]
    assert further(nodes, {}, WHOLE, "auto", {}) == ["b"]
    assert further(nodes, {}, WHOLE, 3, {}) == ["b"]


def test_a_number_is_spread_evenly_and_the_head_comes_last() -> None:
    nodes = [node("head", gpus=4, head=True), node("a", gpus=4), node("b", gpus=4)]
    assert further(nodes, {}, WHOLE, 4, {}) == ["a", "b", "head", "a"]
    assert further(nodes, {"a": 2}, WHOLE, 4, {}) == ["b", "head"]


def test_lost_slots_move_to_nodes_with_room_and_the_others_stay() -> None:
    nodes = [node("a", gpus=2), node("c", gpus=1)]
    assert further(nodes, {"a": 1}, WHOLE, 4, {}) == ["c", "a"], "the fourth finds no node"
    assert further(nodes, {"a": 2, "c": 1}, WHOLE, 2, {}) == [], "more than wanted is nobody's to end"


def test_a_number_goes_where_others_leave_room_now() -> None:
    nodes = [node("a", gpus=2), node("b", gpus=2)]
    assert further(nodes, {}, WHOLE, 2, {"a": 0, "b": 2}) == ["b", "b"]
    assert further(nodes, {}, WHOLE, 3, {"a": 0, "b": 2}) == ["b", "b", "a"], "and waits on a"


@given(
    gpus=st.lists(st.integers(0, 5), min_size=1, max_size=6),
    count=st.integers(1, 20),
    held=st.lists(st.integers(0, 3), min_size=6, max_size=6),
)
def test_a_number_is_met_where_it_fits_and_never_exceeded(
    gpus: list[int], count: int, held: list[int]
) -> None:
    nodes = [node(f"{i}", gpus=n, cpus=64) for i, n in enumerate(gpus)]
    there = {n.id: min(held[i], int(n.gpus)) for i, n in enumerate(nodes)}
    found = Counter(further(nodes, there, WHOLE, count, {}))
    after = {n.id: there[n.id] + found[n.id] for n in nodes}
    assert all(after[n.id] <= n.gpus for n in nodes)
    assert sum(after.values()) == max(sum(there.values()), min(count, sum(gpus)))
    rising = [n for n in nodes if found[n.id]]
    assert all(
        after[n.id] - 1 <= after[other.id] or after[other.id] == other.gpus for n in rising for other in nodes
    ), "no node gets another slot while one with room has fewer"


def test_slots_are_named_after_their_node_by_address_where_names_are_alike() -> None:
    a, b = node("gpu-1", gpus=2), node("gpu-2", gpus=2)
    assert name_of(a, [a, b], []) == "gpu-1:0"
    assert name_of(a, [a, b], ["gpu-1:0", "gpu-1:2"]) == "gpu-1:1"
    twin = replace(b, host="gpu-1")
    assert name_of(twin, [a, twin], ["gpu-1:0"]) == f"{twin.address}:0"
