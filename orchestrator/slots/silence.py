"""Who has not been heard of for a while: told once, and once more when it is back. Plain arithmetic."""

from __future__ import annotations

from orchestrator.work.item import Event

SILENCE_S = 25.0
"""Seconds without a sign of life after which the user is told. A worker asks what is wanted of it every ten
seconds from a thread of its own, however long its epochs take: two such calls are missing by then."""


class Silences:
    """Tells a silence once when it is long enough, and its end.

    Args:
        after: seconds of silence that are worth telling.
    """

    def __init__(self, after: float = SILENCE_S) -> None:
        self._after = after
        self._since: dict[str, float] = {}

    def look(self, name: str, heard: float, now: float) -> Event | None:
        """News of ``name``: ``{kind: silence, state: silent or heard, seconds}``; None if there is none.

        Args:
            name: whose signs of life are watched.
            heard: when the last one came.
            now: by the same clock.
        """
        since = self._since.get(name)
        if since is None and now - heard >= self._after:
            self._since[name] = heard
            return {"kind": "silence", "state": "silent", "seconds": now - heard}
        if since is not None and heard > since:
            del self._since[name]
            return {"kind": "silence", "state": "heard", "seconds": heard - since}
        return None

    def shift(self, seconds: float) -> None:
        """Nobody listened for so long: that was no sign of life."""
        self._since = {name: since + seconds for name, since in self._since.items()}

    def forget(self, name: str) -> None:
        """Nobody waits for it any more."""
        self._since.pop(name, None)
