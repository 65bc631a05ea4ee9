"""What the user sees of the slots, from the pool's events."""

from __future__ import annotations

from orchestrator.rows.rows import Progress
from orchestrator.work.failures import death_in_words
from orchestrator.work.item import Event

SHOWN = {"up": "idle", "down": "restarting", "stopped": "stopped", "gone": "gone"}
"""The states of a slot in the pool's words and in those of ``orchestrator.terminal``."""


class SlotDisplay:
    """Tells which slot is up and what it works on.

    Args:
        progress: takes the events that ``orchestrator.terminal`` shows.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._slot_of: dict[str, str] = {}
        self._work: dict[str, dict[str, int | str]] = {}
        self._up: set[str] = set()
        self._closed = False

    def close(self) -> None:
        """From here on slots go down because they are told to, which is no news."""
        self._closed = True

    def take(self, event: Event) -> None:
        """Take any event of the pool."""
        kind, item_id = event["kind"], event.get("item_id", "")
        held = str(event.get("part") or item_id)
        if kind == "slot":
            self._on_slot(event)
        elif kind == "leased":
            self._slot_of[held] = event["slot"]
            what, _, number = item_id.partition("-")
            work: dict[str, int | str] = {"trial": int(number)} if what == "trial" else {"what": what}
            self._work[event["slot"]] = work
            self._progress({"kind": "slot", "slot": event["slot"], "state": "busy", **work})
        elif kind in ("done", "part_done", "stopped", "requeued"):
            slot = self._slot_of.pop(held, None)
            self._work.pop(slot or "", None)
            if slot in self._up and not self._closed:
                self._progress({"kind": "slot", "slot": slot, "state": "idle"})

        elif kind == "silence" and event.get("slot") in self._up:
            self._on_silence(event)

    def _on_silence(self, event: Event) -> None:
        slot, silent = event["slot"], event["state"] == "silent"
        if slot in self._work and not self._closed:
            work: dict[str, int | str] = {"what": "not heard of"} if silent else self._work[slot]
            state = "silent" if silent else "busy"
            self._progress({"kind": "slot", "slot": slot, "state": state, **work})

    def _on_slot(self, event: Event) -> None:
        slot, state = event["slot"], event["state"]
        if state not in SHOWN:
            return
        (self._up.add if state == "up" else self._up.discard)(slot)
        if self._closed:
            return
        what = death_in_words(event.get("error") or "") if state == "down" else ""
        self._progress({"kind": "slot", "slot": slot, "state": SHOWN[state], "what": what})
        if state == "stopped":
            self._progress(
                {
                    "kind": "note",
                    "text": f"Slot {slot} is quarantined, it takes no more work: {event.get('error')}",
                }
            )
