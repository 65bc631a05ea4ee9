"""The slots of a study: their Train runs in threads of the driver, opened, watched and ended one by one."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.redaction import redact
from orchestrator.slots.placement import SlotPlacement, SlotSize
from orchestrator.slots.pool import DEATHS
from orchestrator.slots.roster import GRACE
from orchestrator.slots.worker import SlotSettings
from orchestrator.work.events import SlotDown, SlotGone, SlotNews, SlotPlaced, SlotStopped, SlotUp

if TYPE_CHECKING:
    from orchestrator.slots.resident_run import ResidentTrainer

logger = logging.getLogger(__name__)


@dataclass
class SlotStates:
    """What the driver knows of its slots, from the pool's events.

    Attributes:
        up: names of slots whose worker runs.
        stopped: error by name of slots that ended for good.
        placement_groups: by slot, in hexadecimal.
        ever_up: whether any slot has been up.
    """

    up: set[str] = field(default_factory=set)
    stopped: dict[str, str] = field(default_factory=dict)
    placement_groups: dict[str, str] = field(default_factory=dict)
    ever_up: bool = False

    def take(self, event: SlotNews) -> None:
        """Take news of a slot."""
        slot = event.slot
        match event:
            case SlotPlaced():
                self.placement_groups[slot] = event.placement_group
            case SlotUp():
                self.up.add(slot)
                self.ever_up = True
            case SlotDown():
                self.up.discard(slot)
            case SlotStopped():
                self.up.discard(slot)
                # The pool tells first, and why; the end of the run follows from that.
                self.stopped.setdefault(slot, event.error or "its worker failed")
            case SlotGone():
                self.up.discard(slot)
                self.stopped.pop(slot, None)


@dataclass(eq=False)
class _Run:
    """The Train run of one slot.

    Attributes:
        place: of the slot.
        number: counts the runs of a driver.
        thread: in which it runs.
        trainer: of the present attempt.
        leaving: nothing that happens to it is a failure.
    """

    place: SlotPlacement
    number: int
    thread: threading.Thread | None = None
    trainer: ResidentTrainer | None = None
    leaving: bool = False

    @property
    def alive(self) -> bool:
        return self.thread is not None and self.thread.is_alive()

    def end(self) -> None:
        """End it at once, wherever it stands: also one that waits for room which never comes."""
        self.leaving = True
        trainer = self.trainer
        if trainer is not None:
            trainer.end()


class ResidentSlots:
    """Resident Train runs, one thread each.

    Args:
        settings: of the workers; ``slot`` is set per slot.
        size: of one worker.
        storage: a local folder for Train.
        states: kept up to date by whoever reads the pool's events.
        pool: the pool actor.
        tell: takes the event of a slot that ended for good in a way the pool cannot see.
        here: id of the driver's node: the only one that cannot be lost without the driver.
    """

    def __init__(
        self,
        settings: SlotSettings,
        *,
        size: SlotSize,
        storage: Path,
        states: SlotStates,
        pool: Any,
        tell: Callable[[SlotStopped], None],
        here: str = "",
    ) -> None:
        self._settings, self._size, self._storage = settings, size, storage
        self._pool, self._tell, self._here = pool, tell, here
        self.states = states
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._runs: dict[str, _Run] = {}
        self._opened = 0

    def open(self, place: SlotPlacement) -> None:
        """Start a slot; returns at once."""
        run = _Run(place, self._opened)
        self._opened += 1
        run.thread = threading.Thread(target=self._keep, args=(run,), name=f"slot-{place.name}", daemon=True)
        with self._lock:
            self._runs[place.name] = run
        run.thread.start()

    def drain(self, name: str) -> None:
        """Let a slot's worker give its work back and leave; one that does not work yet ends at once."""
        run = self._run(name)
        if name not in self.states.up:
            self.lose(name)
        elif run is not None:
            run.leaving = True
            self._pool.drain.remote(name)

    def lose(self, name: str) -> None:
        """The slot's node is gone: end its run, requeue its work. What is left of both counts for nothing."""
        run = self._run(name)
        if run is not None:
            run.end()
            self._pool.lost.remote(name)
            with self._lock:
                if not run.alive:
                    self._runs.pop(name, None)

    def places(self) -> list[SlotPlacement]:
        """Of slots that run, and of those that stopped for good."""
        with self._lock:
            runs = list(self._runs.values())
        stopped = self.states.stopped
        return [run.place for run in runs if not run.leaving and (run.alive or run.place.name in stopped)]

    def leaving(self) -> list[SlotPlacement]:
        """Of slots that have been told to go and have not gone yet."""
        with self._lock:
            self._runs = {name: run for name, run in self._runs.items() if run.alive or not run.leaving}
            return [run.place for run in self._runs.values() if run.leaving]

    @property
    def all_stopped(self) -> bool:
        """There were slots and none is left that could take work; slots whose node went may come again."""
        if not self.states.stopped:
            return False
        names = {place.name for place in self.places()}
        return bool(names) and names <= self.states.stopped.keys()

    @property
    def error(self) -> str:
        """Why the first of the stopped slots stopped."""
        return next(iter(self.states.stopped.values()), "")

    def join(self, timeout: float) -> bool:
        """Wait for the runs to end after the pool was told to stop; False if some are still up."""
        self._stopping.set()
        with self._lock:
            runs = list(self._runs.values())
        for run in runs:
            if run.place.node and run.place.name not in self.states.up:
                # It waits for room on its node, and would not hear that nobody needs it.
                with contextlib.suppress(Exception):  # of a Ray that is going down by itself
                    run.end()
        deadline = time.monotonic() + timeout
        for run in runs:
            if run.thread is not None:
                run.thread.join(max(0.0, deadline - time.monotonic()))
        return not any(run.alive for run in runs)

    def _run(self, name: str) -> _Run | None:
        with self._lock:
            return self._runs.get(name)

    def _keep(self, run: _Run) -> None:
        """Run the slot. Train restarts its worker; a controller that dies is replaced here."""
        from ray.exceptions import OutOfMemoryError, RayActorError

        from orchestrator.slots.resident_run import resident_run

        slot, node = run.place.name, run.place.node
        error = ""
        for attempt in range(DEATHS):
            run.trainer = resident_run(
                replace(self._settings, slot=slot),
                self._pool,
                size=self._size,
                storage=self._storage / f"slot-{run.number}-{attempt}",
                node=node,
                grace=0.0 if node in ("", self._here) else GRACE,
            )
            if run.leaving:
                return
            try:
                run.trainer.fit()
                return
            except (RayActorError, OutOfMemoryError) as failure:  # the latter from Ray's memory monitor
                error = redact(f"its Train controller died: {failure}")
                if self._stopping.is_set():
                    return
                with contextlib.suppress(Exception):
                    self._free(slot)
                if run.leaving:
                    return
                logger.warning("slot %s: %s", slot, error)
                with contextlib.suppress(Exception):
                    self._pool.died.remote(slot, error)
            except (Exception, SystemExit) as failure:
                # Train raises what ended the run; SystemExit comes from a Ray that shuts down.
                error = redact(f"{type(failure).__name__}: {failure}")
                break
        if not self._stopping.is_set() and not run.leaving:
            self._tell(SlotStopped(slot=slot, error=error))

    def _free(self, slot: str) -> None:
        """Give back what a dead controller had reserved: Ray keeps it until the whole job ends."""
        from ray._raylet import PlacementGroupID
        from ray.util import remove_placement_group
        from ray.util.placement_group import PlacementGroup

        held = self.states.placement_groups.pop(slot, None)
        if held is not None:
            remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(held))))
