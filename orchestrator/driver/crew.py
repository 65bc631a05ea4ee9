"""The slots of a session: opened where there is room, shown, watched, and let go of."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from mmap_model import references
from mmap_model.plain import to_plain
from orchestrator.driver.pool_client import PoolClient
from orchestrator.driver.slot_display import SlotDisplay
from orchestrator.driver.slot_memory import SlotMemory
from orchestrator.driver.surroundings import Surroundings
from orchestrator.ledger.documents import now
from orchestrator.slots.membership import Membership
from orchestrator.slots.placement import SlotPlacement, SlotSize
from orchestrator.slots.slots import ResidentSlots, SlotStates
from orchestrator.slots.worker import SlotSettings
from orchestrator.study import execution
from orchestrator.work.events import SlotMeasured, SlotNews, SlotStopped
from orchestrator.work.shown import NoteShown, SlotsShown

LEAVE_S = 7.0
"""Seconds that the slots get to save and leave."""

logger = logging.getLogger(__name__)


class Crew:
    """The slots that work on what the pool holds.

    Args:
        around: of the session.
        pool_is_gone: whether the pool has failed: then no slot is to blame for its end.
        news: called after every event of a slot.

    Attributes:
        states: what is known of each slot.
        display: what the user sees of them.
        size: of a slot; None before the first is opened.
    """

    def __init__(
        self, around: Surroundings, pool_is_gone: Callable[[], bool], news: Callable[[], None]
    ) -> None:
        self._around, self._pool_is_gone, self._news = around, pool_is_gone, news
        self.states = SlotStates()
        self.display = SlotDisplay(around.progress)
        self.size: SlotSize | None = None
        self._memory = SlotMemory()
        self._slots: ResidentSlots | None = None
        self._membership: Membership | None = None

    def open(self, pool: PoolClient, imports: threading.Thread) -> None:
        """Open the first slots, once ``imports`` is over; on a cluster they come and go with its nodes."""
        plan = self._around.plan
        layout = plan.slots
        if layout is None:
            self._follow_nodes(pool, imports)
            return
        slots = self._make(SlotSize(layout.cpus, layout.gpus), layout.threads, pool)
        imports.join()
        for number in range(layout.count):
            slots.open(SlotPlacement(str(number)))
        self._around.progress(SlotsShown(count=layout.count))

    def _follow_nodes(self, pool: PoolClient, imports: threading.Thread) -> None:
        """Slots where Ray, not this machine, says what there is."""
        from cluster.nodes import living_nodes
        from orchestrator.slots.demand import Demand

        wanted = self._around.plan.study.slots
        size = SlotSize.of(wanted.cpus, wanted.gpus, living_nodes())
        slots = self._make(size, wanted.threads or max(1, int(wanted.cpus)), pool)
        self._membership = Membership(
            slots,
            nodes=living_nodes,
            free=_room_now,
            size=size,
            count=wanted.count,
            demand=Demand(size),
            note=self._note,
        )
        imports.join()
        self._membership.start()

    def _make(self, size: SlotSize, threads: int, pool: PoolClient) -> ResidentSlots:
        import ray

        self.size, self._memory = size, SlotMemory(size.gpus)
        self._slots = ResidentSlots(
            self.settings(size, threads),
            size=size,
            storage=self._around.folder / "train",
            states=self.states,
            pool=pool.actor,
            tell=self.take,
            here=ray.get_runtime_context().get_node_id(),
        )
        return self._slots

    def settings(self, size: SlotSize, threads: int) -> SlotSettings:
        """What the workers of slots need to know."""
        study = self._around.plan.study
        item = self._around.plan.work_item(study.point, item_id="")
        arguments = {
            "dataset": item.dataset,
            "backbone": item.backbone,
            "storage": self._around.store.storage.root,
            "device": "cuda" if size.gpus else "cpu",
            "precision": item.precision,
            "threads": threads,
            "compute": to_plain(execution(study)),
            "sources": references.sources(study.dataset.name),
        }
        if 0 < size.gpus < 1:
            arguments["gpu_share"] = size.gpus
        return SlotSettings(
            slot="",
            executor=self._around.executor,
            arguments=arguments,
            threads=threads,
            cell_timeout_s=study.slots.cell_timeout_s,
        )

    @property
    def count(self) -> int:
        """Slots that are up or may come up."""
        return 0 if self._slots is None else len(self._slots.places())

    def room(self) -> int:
        """Items that may be in work: one per slot that is up, or that is expected before any was."""
        return len(self.states.up) or (0 if self.states.ever_up else self.count)

    @property
    def error(self) -> str | None:
        """Why no slot is left; None while there is one, or one may come up."""
        return self._slots.error if self._slots is not None and self._slots.all_stopped else None

    def take(self, event: SlotNews) -> None:
        """Take news of a slot in, from the pool or from the slot's run; both tell of one that stopped."""
        known = event.slot in self.states.stopped
        self.states.take(event)
        if isinstance(event, SlotStopped) and (known or self._pool_is_gone()):
            return
        self.display.take(event)
        if isinstance(event, SlotStopped):
            self._quarantine(event.slot)
        elif isinstance(event, SlotMeasured) and (warning := self._memory.take(event)):
            self._note(warning)
        self._news()

    def stop(self) -> None:
        """No further slot is opened."""
        if self._membership is not None:
            self._membership.stop()

    def leave(self, heard: bool) -> None:
        """Wait until the slots have left; not at all if they have not ``heard`` that all work ends."""
        if self._slots is not None and not self._slots.join(LEAVE_S if heard else 0.0):
            logger.info("Some slots did not leave in time")

    def _quarantine(self, slot: str) -> None:
        """Keep with the invocation, for ``status``, that a slot takes no more work, and why."""
        places = {} if self._slots is None else {place.name: place for place in self._slots.places()}
        node = places[slot].shown if slot in places else ""
        invocation = self._around.invocation
        reason = self.states.stopped[slot]
        invocation.quarantined.append({"slot": slot, "node": node, "reason": reason, "at": now()})
        self._around.store.save_invocation(invocation)

    def _note(self, text: str) -> None:
        self._around.progress(NoteShown(text=text))


def _room_now(size: SlotSize) -> Mapping[str, int]:
    """How many more slots each node carries beside what is used of it."""
    from cluster.nodes import free_resources

    return {
        node: size.fit(free.get("CPU", 0.0), free.get("GPU", 0.0)) for node, free in free_resources().items()
    }
