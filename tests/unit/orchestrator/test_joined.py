"""Items in parts: which cells go where, and that what is told is what the whole would have told."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.slots.joined import Joined
from orchestrator.slots.pool import Pool
from orchestrator.statistics.summary import objective
from orchestrator.work.events import (
    CellFinished,
    CellsKnown,
    CellState,
    Done,
    EndState,
    EpochReached,
    ItemEvent,
    PartDone,
    WorkEvent,
)
from orchestrator.work.item import WorkItem


def whole(splits: int, seeds: int) -> WorkItem:
    return WorkItem(
        item_id="trial-7",
        study="s",
        point={},
        splits=tuple({"shots": s} for s in range(splits)),
        seeds=tuple({"draw": s, "train": s} for s in range(seeds)),
        dataset={},
        backbone={},
        storage="",
    )


def cells_of(item: WorkItem) -> list[tuple[int, int]]:
    return [(split["shots"], seed["train"]) for split in item.splits for seed in item.seeds]


@given(splits=st.integers(1, 4), seeds=st.integers(1, 5), count=st.integers(1, 24))
def test_parts_hold_every_cell_once_in_order_and_divide_seeds_last(
    splits: int, seeds: int, count: int
) -> None:
    item = whole(splits, seeds)
    parts = item.parts(count)
    assert [cell for part in parts for cell in cells_of(part)] == cells_of(item)
    assert len(parts) <= count and len({part.item_id for part in parts}) == len(parts)
    assert len(parts) >= min(count, splits)
    if count <= splits:
        assert all(part.seeds == item.seeds for part in parts)
    sizes = [len(part.seeds) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert (parts == (item,)) == (len(parts) == 1)


class Trained:
    """Pretended training of a part: the events that a worker tells."""

    def __init__(self, part: WorkItem, epochs: int) -> None:
        names = cells_of(part)
        keys = {name: f"k{name[0]}{name[1]}" for name in names}
        cells = [CellState(key=keys[n], split=f"{n[0]}", seed=f"{n[1]}", parameters=1) for n in names]
        about = part.item_id
        self.events: list[WorkEvent] = [CellsKnown(item_id=about, cells=cells)]
        for epoch in range(1, epochs + 1):
            reports = {keys[n]: {"accuracy": accuracy(n, epoch)} for n in names}
            mean = sum(r["accuracy"] for r in reports.values()) / len(reports)
            values = [r["accuracy"] for r in reports.values()]
            told = EpochReached(item_id=about, epoch=epoch, mean=mean, values=values, reports=reports)
            self.events.append(told)
        self.events += [
            CellFinished(item_id=about, key=key, at="", metrics={}, parameters=1, seconds={})
            for key in keys.values()
        ]


def accuracy(name: tuple[int, int], epoch: int) -> float:
    return 1 / (1 + name[0] + 10 * name[1] + epoch)


@given(seed=st.integers(0, 1000), count=st.integers(2, 6), again=st.booleans())
def test_the_whole_is_told_whatever_the_order_of_its_parts(seed: int, count: int, again: bool) -> None:
    """Parts run at their own speeds; one of them may begin again after a worker died."""
    item, epochs, rng = whole(2, 3), 3, random.Random(seed)
    parts = item.parts(count)
    joined = Joined(item.item_id, [part.item_id for part in parts])
    queues = {part.item_id: Trained(part, epochs).events for part in parts}
    if again:
        victim = rng.choice(sorted(queues))
        queues[victim] = queues[victim][:2] + queues[victim]
    told: list[WorkEvent] = []
    while any(queues.values()):
        name = rng.choice([name for name, queue in queues.items() if queue])
        told += joined.take(name, queues[name].pop(0))
    ends = [
        joined.end(p.item_id, Done(item_id=p.item_id, state="complete", seconds={"total": 2.0}))
        for p in parts
    ]
    assert all(end == [] for end in ends[:-1])
    last = ends[-1][-1]
    assert isinstance(last, Done)
    assert last.state == "complete" and last.seconds == {"total": 2.0 * len(parts)}
    assert {event.item_id for event in told} == {"trial-7"}
    assert isinstance(told[0], CellsKnown)
    assert [(c.split, c.seed) for c in told[0].cells] == [(str(a), str(b)) for a, b in cells_of(item)]
    by_epoch = [event for event in told if isinstance(event, EpochReached)]
    assert [event.epoch for event in by_epoch] == [1, 2, 3]
    for event in by_epoch:
        values = {name: accuracy(name, event.epoch) for name in cells_of(item)}
        assert event.values == list(values.values()) and event.mean == objective(values)
    assert len({e.key for e in told if isinstance(e, CellFinished)}) == 6


@pytest.mark.parametrize(
    ("states", "state"),
    [
        (("complete", "failed"), "failed"),
        (("cancelled", "failed"), "failed"),
        (("failed", "lost"), "lost"),
        (("complete", "cancelled"), "cancelled"),
    ],
)
def test_the_worst_end_of_a_part_is_that_of_the_whole(
    states: tuple[EndState, EndState], state: EndState
) -> None:
    joined = Joined("trial-7", ["a", "b"])
    for part, end in zip("ab", states, strict=True):
        told = joined.end(part, Done(item_id=part, state=end, error=end))
    assert told == [Done(item_id="trial-7", state=state, error=state)]


def begin(pool: Pool, slot: str) -> dict[str, Any]:
    lease = pool.acquire(slot, "w")
    assert lease is not None
    return lease


def test_parts_go_to_several_slots_and_end_as_one() -> None:
    pool, item = Pool(), whole(1, 3)
    parts = [part.to_dict() for part in item.parts(3)]
    assert pool.submit(item.to_dict(), parts=parts) and not pool.submit(item.to_dict(), parts=parts)
    leases = {}
    for slot in "012":
        pool.hello(slot, "w")
        leases[slot] = begin(pool, slot)
    for number, slot in enumerate("012"):
        lease = leases[slot]
        part = WorkItem.from_dict(lease["item"])
        if slot == "1":  # its worker dies and the part comes back
            pool.died(slot, "killed")
            pool.hello(slot, "w")
            lease = begin(pool, slot)
            assert lease["item"]["item_id"] == part.item_id
        done = Done(item_id=part.item_id, state="complete")
        assert pool.follow("trial-7", 0)["end"] is None
        assert pool.report(slot, "w", lease["lease"], [*Trained(part, 2).events, done]), number
    followed = pool.follow("trial-7", 0)
    assert [epoch for epoch, _ in followed["epochs"]] == [1, 2] and followed["end"]["state"] == "complete"
    told = [event for _, event in pool.events(0)]
    assert [type(e) for e in told if isinstance(e, Done | PartDone)] == [PartDone] * 3 + [Done]
    assert {e.item_id for e in told if isinstance(e, ItemEvent)} == {"trial-7"}
    pool.forget("trial-7")
    assert pool.follow("trial-7.0", 0)["end"]["state"] == "lost", "nothing is kept of the parts"


def test_cancelling_the_whole_cancels_queued_and_running_parts() -> None:
    pool, item = Pool(), whole(1, 2)
    pool.submit(item.to_dict(), parts=[part.to_dict() for part in item.parts(2)])
    pool.hello("0", "w")
    lease = begin(pool, "0")
    pool.cancel("trial-7")
    assert pool.wish("0", "w", lease["lease"])["cancel"] and pool.follow("trial-7", 0)["end"] is None
    done = Done(item_id="trial-7.0", state="cancelled")
    pool.report("0", "w", lease["lease"], [done])
    assert pool.follow("trial-7", 0)["end"]["state"] == "cancelled"
    assert pool.acquire("0", "w") is None
