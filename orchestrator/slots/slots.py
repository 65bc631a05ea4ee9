"""The slots of a study: their Train runs in threads of the driver, started, watched and ended together."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from orchestrator.slots.pool import DEATHS
from orchestrator.slots.worker import SlotSettings
from orchestrator.work import Event

logger = logging.getLogger(__name__)


@dataclass
class SlotStates:
    """What the driver knows of its slots, from the pool's events.

    Attributes:
        up: names of slots whose worker runs.
        stopped: error by name of slots that ended for good.
        placement_groups: by slot, in hexadecimal.
    """

    up: set[str] = field(default_factory=set)
    stopped: dict[str, str] = field(default_factory=dict)
    placement_groups: dict[str, str] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        """Take an event of kind ``slot``."""
        slot, state = event["slot"], event["state"]
        if state == "placed":
            self.placement_groups[slot] = event["placement_group"]
        elif state == "up":
            self.up.add(slot)
        else:
            self.up.discard(slot)
            if state == "stopped":
                self.stopped[slot] = event.get("error") or "its worker failed"


class Slots:
    """Resident Train runs, one thread each.

    Args:
        settings: of the workers; ``slot`` is set per slot.
        count: how many runs.
        cpus, gpus: of one worker.
        storage: a local folder for Train.
        states: kept up to date by whoever reads the pool's events.
    """

    def __init__(
        self,
        settings: SlotSettings,
        *,
        count: int,
        cpus: float,
        gpus: float,
        storage: Path,
        states: SlotStates,
    ) -> None:
        self._settings = [replace(settings, slot=str(i)) for i in range(count)]
        self._cpus, self._gpus, self._storage = cpus, gpus, storage
        self.states = states
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, pool: Any, tell: Callable[[Event], None]) -> None:
        """Start all runs; returns at once.

        Args:
            pool: the pool actor.
            tell: takes the event of a slot that ended for good in a way the pool cannot see.
        """
        for settings in self._settings:
            thread = threading.Thread(
                target=self._keep, args=(settings, pool, tell), name=f"slot-{settings.slot}", daemon=True
            )
            thread.start()
            self._threads.append(thread)

    @property
    def all_stopped(self) -> bool:
        """No slot is left that could take work."""
        return len(self.states.stopped) == len(self._settings)

    @property
    def error(self) -> str:
        """Why the first of the stopped slots stopped."""
        return next(iter(self.states.stopped.values()), "")

    def join(self, timeout: float) -> bool:
        """Wait for the runs to end after the pool was told to stop; False if some are still up."""
        self._stopping.set()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _keep(self, settings: SlotSettings, pool: Any, tell: Callable[[Event], None]) -> None:
        """Run the slot. Train restarts its worker; a controller that dies is replaced here."""
        from ray.exceptions import RayActorError

        from orchestrator.slots.resident_run import resident_run

        error = ""
        for attempt in range(DEATHS):
            name = f"slot-{settings.slot}-{attempt}"
            run = resident_run(settings, pool, cpus=self._cpus, gpus=self._gpus, storage=self._storage / name)
            try:
                run.fit()
                return
            except RayActorError as failure:
                error = f"its Train controller died: {failure}"
                if self._stopping.is_set():
                    return
                logger.warning("slot %s: %s", settings.slot, error)
                with contextlib.suppress(Exception):
                    self._free(settings.slot)
                    pool.died.remote(settings.slot, error)
            except (Exception, SystemExit) as failure:
                # Train raises what ended the run; SystemExit comes from a Ray that shuts down.
                error = f"{type(failure).__name__}: {failure}"
                break
        if not self._stopping.is_set():
            tell({"kind": "slot", "slot": settings.slot, "state": "stopped", "error": error})

    def _free(self, slot: str) -> None:
        """Give back what a dead controller had reserved: Ray keeps it until the whole job ends."""
        from ray._raylet import PlacementGroupID
        from ray.util import remove_placement_group
        from ray.util.placement_group import PlacementGroup

        held = self.states.placement_groups.pop(slot, None)
        if held is not None:
            remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(held))))
