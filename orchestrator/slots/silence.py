"""Who has not responded for a while: told once, and once more when it is back. Plain arithmetic."""

from __future__ import annotations

from orchestrator.work.events import Silence

SILENCE_S = 25.0
"""Seconds without a sign of life after which the user is told. A worker asks what is wanted of it every ten
seconds from a thread of its own, however long its epochs take: two such calls are missing by then."""


class Silences:
    """Tells a silence once when it is long enough, and its end.

    Args:
        patience: seconds of silence after which somebody counts as dead.
        after: seconds of silence that are worth telling.
    """

    def __init__(self, patience: float, after: float = SILENCE_S) -> None:
        self._patience, self._after = patience, after
        self._since: dict[str | None, float] = {}

    def look(self, slot: str | None, heard: float, now: float) -> Silence | None:
        """News of a slot, or of the pool itself (None); None if there is none.

        Args:
            slot: whose signs of life are watched.
            heard: when the last one came.
            now: by the same clock.
        """
        since = self._since.get(slot)
        if since is None and now - heard >= self._after:
            self._since[slot] = heard
            return Silence(slot=slot, seconds=now - heard, patience=self._patience)
        if since is not None and heard > since:
            del self._since[slot]
            return Silence(slot=slot, over=True, seconds=heard - since, patience=self._patience)
        return None

    def shift(self, seconds: float) -> None:
        """Nobody listened for so long: that was no sign of life."""
        self._since = {slot: since + seconds for slot, since in self._since.items()}

    def forget(self, slot: str) -> None:
        """Nobody waits for it any more."""
        self._since.pop(slot, None)
