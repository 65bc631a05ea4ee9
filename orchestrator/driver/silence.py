"""Who has not been heard of: told to the user once, and once when it is back; ``status`` shows it too."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from orchestrator.ledger import Invocation, StudyStore
from orchestrator.ledger.invocation import QUEUE
from orchestrator.work.events import Event, Silence, SlotGone, SlotStopped
from orchestrator.work.shown import NoteShown, Progress


class SilenceNotes:
    """What a driver makes of a silence.

    Args:
        progress: shown to the user.
        store: keeps the invocation.
        invocation: its ``silent`` says who has not been heard of, and since when.
    """

    def __init__(self, progress: Progress, store: StudyStore, invocation: Invocation) -> None:
        self._progress, self._store, self._invocation = progress, store, invocation

    def take(self, event: Event) -> None:
        """Take any event."""
        match event:
            case Silence():
                self._progress(NoteShown(text=_text(event)))
                self._keep(event.slot or QUEUE, None if event.over else event.seconds)
            case SlotGone() | SlotStopped():
                self._keep(event.slot, None)  # nobody waits for it any more

    def _keep(self, name: str, seconds: float | None) -> None:
        others = [entry for entry in self._invocation.silent if entry["name"] != name]
        if seconds is not None:
            since = datetime.now(UTC) - timedelta(seconds=seconds)
            others.append({"name": name, "since": since.isoformat(timespec="microseconds")})
        if others != self._invocation.silent:
            self._invocation.silent = others
            self._store.save_invocation(self._invocation)


def _text(event: Silence) -> str:
    slot, seconds, limit = event.slot, f"{event.seconds:.0f} s", f"{event.patience:.0f} s"
    if event.over:
        who = "The work queue responds" if slot is None else f"Slot {slot} responds"
        return f"{who} again, after {seconds}"
    if slot is None:
        return (
            f"The work queue has not answered for {seconds}: its process is stopped, or has no processor "
            f"time; after {limit} this run ends, and the same command continues it"
        )
    return (
        f"Slot {slot} has not responded for {seconds}: its process is stopped, or its node cannot be "
        f"reached; after {limit} its work is queued again for another slot"
    )
