"""What the user sees of the slots, from the pool's events."""

from __future__ import annotations

from orchestrator.work.events import (
    Done,
    Event,
    Interrupted,
    Leased,
    PartDone,
    Requeued,
    Silence,
    SlotDoing,
    SlotDown,
    SlotGone,
    SlotStopped,
    SlotUp,
    StageDone,
)
from orchestrator.work.failures import death_in_words
from orchestrator.work.shown import NoteShown, Progress, SlotShown, WorkShown


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
        match event:
            case SlotUp() | SlotDown() | SlotStopped() | SlotGone():
                self._on_slot(event)
            case SlotDoing(slot=slot, doing=doing):
                if not self._closed:
                    self._progress(WorkShown(slot=slot, doing=doing))
            case Leased(slot=slot):
                self._slot_of[event.held] = slot
                self._work[slot] = _busy(slot, event.item_id)
                self._progress(self._work[slot])
            case Done() | PartDone() | StageDone() | Interrupted() | Requeued():
                free = self._slot_of.pop(event.held, None)
                self._work.pop(free or "", None)
                if free in self._up and not self._closed:
                    self._progress(SlotShown(slot=free, state="idle"))
            case Silence(slot=str(slot)) if slot in self._work and slot in self._up and not self._closed:
                unheard = SlotShown(slot=slot, state="silent", what="not responding")
                self._progress(self._work[slot] if event.over else unheard)

    def _on_slot(self, event: SlotUp | SlotDown | SlotStopped | SlotGone) -> None:
        slot = event.slot
        (self._up.add if isinstance(event, SlotUp) else self._up.discard)(slot)
        if self._closed:
            return
        match event:
            case SlotUp():
                self._progress(SlotShown(slot=slot, state="idle"))
            case SlotDown():
                self._progress(SlotShown(slot=slot, state="restarting", what=death_in_words(event.error)))
            case SlotGone():
                self._progress(SlotShown(slot=slot, state="gone"))
            case SlotStopped():
                self._progress(SlotShown(slot=slot, state="stopped", what=death_in_words(event.error)))
                text = f"Slot {slot} is quarantined, it takes no more work: {event.error}"
                self._progress(NoteShown(text=text))


def _busy(slot: str, item_id: str) -> SlotShown:
    """A slot at work on an item, by the name that rows give it.

    ``trial-3``, in a race ``trial-3-seeds-7``; ``probe-…``, ``confirm-…``.
    """
    what, number, *_ = [*item_id.split("-"), ""]
    if what == "trial":
        return SlotShown(slot=slot, state="busy", trial=int(number))
    return SlotShown(slot=slot, state="busy", what=what)
