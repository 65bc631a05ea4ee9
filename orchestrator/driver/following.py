"""A run that goes on elsewhere, shown here from its records until it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

from orchestrator.ledger import StudyStore
from orchestrator.ledger.holding import Seen
from orchestrator.ledger.live_record import LiveRecord
from orchestrator.ledger.watch import LeaseWatch
from orchestrator.terminal.snapshot import restored
from orchestrator.terminal.state import SweepState
from orchestrator.work.shown import NoteShown, Shown
from orchestrator.work.shown_json import from_plain

LOOK_S = 2.0
"""Seconds between two looks at the records."""

SAY_S = 15.0
"""Seconds without a sign of life of the driver after which that is said."""

RunEnd = Literal["none", "complete", "failed", "interrupted", "dead"]


class Shows(Protocol):
    """A display."""

    def apply(self, event: Shown) -> None: ...
    def show(self, state: SweepState) -> None: ...


def follow(
    store: StudyStore,
    display: Shows,
    *,
    pause: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> RunEnd:
    """Show a run until it ends.

    Args:
        store: of the study.
        display: shows it.
        pause, clock: replaced in tests.

    Returns:
        How it ended; ``none``: nobody runs the study; ``dead``: its driver died, or was not heard of for as
        long as a driver may be silent.
    """
    watch, live = LeaseWatch(clock=clock), LiveRecord(store.storage, store.name)
    folder = f"studies/{store.name}/driver"
    told, moved, heard, said = 0, None, clock(), False
    fence = 0
    while True:
        seen = watch.observe(store.storage, folder)
        if not fence and (seen is None or watch.is_over):
            return "none"
        if seen is not None and seen.fence != fence:
            fence, told = seen.fence, 0
            display.apply(NoteShown(text=f"Following {seen.who}"))
        if (document := live.read(fence)) is not None:
            told = _show(document, told, display)
        if watch.is_over:
            return _end(store, seen, display)
        data = None if seen is None else seen.data
        if data != moved:
            moved, heard, said = data, clock(), False
        elif not said and clock() - heard >= SAY_S:
            said = True
            text = f"No heartbeat from the driver for {clock() - heard:.0f} s"
            display.apply(NoteShown(text=f"{text}; after {watch.limit:.0f} s it counts as dead"))
        pause(LOOK_S)


def _show(document: Mapping[str, Any], told: int, display: Shows) -> int:
    """Show events later than ``told``, and then the state; the number of the last event."""
    try:
        for number, event in document["events"]:
            if told and number > told:
                display.apply(from_plain(event))
        display.show(restored(document["state"]))
        return max([told, *(int(number) for number, _ in document["events"])])
    except (KeyError, TypeError, ValueError):  # of another version
        return told


def _end(store: StudyStore, seen: Seen | None, display: Shows) -> RunEnd:
    released = seen is not None and seen.holding is not None and seen.holding.released
    invocations = store.load_invocations()
    outcome = invocations[-1].outcome if invocations else "running"
    if not released or outcome == "running":
        who = "The driver" if seen is None else seen.who.capitalize()
        display.apply(NoteShown(text=f"{who} is dead, nothing runs; the same command resumes it"))
        return "dead"
    display.apply(NoteShown(text=f"The run has ended: {outcome}"))
    return "complete" if outcome == "complete" else "interrupted" if outcome == "interrupted" else "failed"
