"""What the user sees of the slots, from the pool's events."""

from __future__ import annotations

from orchestrator.work.failures import death_in_words
from orchestrator.work.item import Event
from orchestrator.work.shown import NoteShown, Progress, SlotShown, SlotStage

SHOWN: dict[str, SlotStage] = {"up": "idle", "down": "restarting", "stopped": "stopped", "gone": "gone"}
"""The states of a slot in the pool's words and in those of ``orchestrator.work.shown``."""


class SlotDisplay:
    """Tells which slot is up and what it works on.

    Args:
        progress: shows them to the user.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._slot_of: dict[str, str] = {}
        self._work: dict[str, SlotShown] = {}
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
            self._work[event["slot"]] = _busy(event["slot"], item_id)
            self._progress(self._work[event["slot"]])
        elif kind in ("done", "part_done", "stopped", "requeued"):
            slot = self._slot_of.pop(held, None)
            self._work.pop(slot or "", None)
            if slot in self._up and not self._closed:
                self._progress(SlotShown(slot=slot, state="idle"))
        elif kind == "silence" and event.get("slot") in self._up:
            self._on_silence(event)

    def _on_silence(self, event: Event) -> None:
        slot, silent = event["slot"], event["state"] == "silent"
        if slot in self._work and not self._closed:
            unheard = SlotShown(slot=slot, state="silent", what="not heard of")
            self._progress(unheard if silent else self._work[slot])

    def _on_slot(self, event: Event) -> None:
        slot, state = event["slot"], event["state"]
        if state not in SHOWN:
            return
        (self._up.add if state == "up" else self._up.discard)(slot)
        if self._closed:
            return
        what = death_in_words(event.get("error") or "") if state == "down" else ""
        self._progress(SlotShown(slot=slot, state=SHOWN[state], what=what))
        if state == "stopped":
            text = f"Slot {slot} is quarantined, it takes no more work: {event.get('error')}"
            self._progress(NoteShown(text=text))


def _busy(slot: str, item_id: str) -> SlotShown:
    """A slot at work on an item, by the name that rows give it: ``trial-3``, ``probe-…``, ``confirm-…``."""
    what, _, number = item_id.partition("-")
    if what == "trial":
        return SlotShown(slot=slot, state="busy", trial=int(number))
    return SlotShown(slot=slot, state="busy", what=what)
