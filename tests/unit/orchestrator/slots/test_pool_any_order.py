"""Whatever happens in whatever order, no item is lost or worked on twice."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from pool_words import done, item

from orchestrator.slots.pool import Pool


class AnyOrder(RuleBasedStateMachine):
    """Whatever the order of submissions, leases, deaths and ends: nothing is lost or runs twice at once."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = Pool(clock=lambda: 0.0, deaths=1000)
        self.workers: dict[str, str] = {}
        self.leases: dict[str, dict[str, Any]] = {}
        self.submitted: set[str] = set()
        self.ended: set[str] = set()
        self.serial = 0

    @rule(slot=st.sampled_from("012"))
    def worker_comes_up(self, slot: str) -> None:
        self.serial += 1
        self.workers[slot] = f"w{self.serial}"
        self.leases.pop(slot, None)
        assert self.pool.hello(slot, self.workers[slot])

    @rule(name=st.sampled_from("abcdef"))
    def submit(self, name: str) -> None:
        assert self.pool.submit(item(name)) == (name not in self.submitted)
        self.submitted.add(name)

    @precondition(lambda self: set(self.workers) - set(self.leases))
    @rule(data=st.data())
    def acquire(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(sorted(set(self.workers) - set(self.leases))))
        lease = self.pool.acquire(slot, self.workers[slot])
        running = {held["item"]["item_id"] for held in self.leases.values()}
        waiting = self.submitted - self.ended - running
        assert (lease is None) == (not waiting)
        if lease is not None:
            assert lease["item"]["item_id"] in waiting
            self.leases[slot] = lease

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(sorted(self.leases)))
        lease = self.leases.pop(slot)
        name = lease["item"]["item_id"]
        assert self.pool.report(slot, self.workers[slot], lease["lease"], [done(name)])
        self.ended.add(name)

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), grace=st.sampled_from([0.0, 90.0]), node_too=st.booleans())
    def die(self, data: st.DataObject, grace: float, node_too: bool) -> None:
        slot = data.draw(st.sampled_from(sorted(self.workers)))
        worker, lease = self.workers.pop(slot), self.leases.pop(slot, None)
        self.pool.died(slot, "killed", grace=grace)
        if node_too:
            self.pool.lost(slot)
        if lease is not None:
            assert not self.pool.report(slot, worker, lease["lease"], [done(lease["item"]["item_id"])])

    @precondition(lambda self: self.workers)
    @rule(data=st.data())
    def drain(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(sorted(self.workers)))
        worker, lease = self.workers.pop(slot), self.leases.pop(slot, None)
        self.pool.drain(slot)
        if lease is not None:
            name = lease["item"]["item_id"]
            assert self.pool.report(slot, worker, lease["lease"], [done(name, "cancelled")])
        assert self.pool.acquire(slot, worker) == {"stop": True}
        self.pool.bye(slot, worker)

    @invariant()
    def ends_are_those_reported(self) -> None:
        for name in self.submitted:
            assert (self.pool.follow(name, 0)["end"] is not None) == (name in self.ended)


TestAnyOrder = AnyOrder.TestCase


TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
