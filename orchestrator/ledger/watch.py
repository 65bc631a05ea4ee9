"""Whether the holder of a lease is alive: its file changes while it is watched.

Clocks are never compared. A holder whose clock is hours behind seems long dead by its time stamps, one whose
clock ran ahead before it died seems alive for hours. What counts is how long nothing changed while somebody
watched, by the watcher's own monotonic clock. Time in which the watcher itself was stopped does not count: it
and the holder may have been stopped together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from orchestrator.ledger.holding import Seen, observe
from orchestrator.ledger.storage import Storage

INTERVAL = 5.0
"""Seconds between heartbeats."""

PATIENCE = 6
"""Intervals without a heartbeat, watched, after which a holder counts as dead."""

LONGEST = 300.0
"""Seconds of watching at most, whatever interval a lease file names."""

LOOKS = 10
"""Looks per interval."""


class LeaseWatch:
    """One watcher of one lease.

    Args:
        patience: intervals of the holder.
        clock: seconds, monotonic.

    Attributes:
        moved: something changed since the first look.
    """

    def __init__(self, *, patience: int = PATIENCE, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience, self._clock = patience, clock
        self._seen: Seen | None = None
        self._at = 0.0
        self._silent = 0.0
        self.moved = False

    def observe(self, storage: Storage, folder: str) -> Seen | None:
        """Look once; None if nobody ever held the lease."""
        at = self._clock()  # before the look: what changes while it takes long was not seen to stand still
        seen = observe(storage, folder)
        if seen is None or seen != self._seen:
            self.moved = self._seen is not None
            self._silent = 0.0
        else:
            self._silent += min(at - self._at, interval(seen))
        self._seen, self._at = seen, at
        return seen

    @property
    def is_over(self) -> bool:
        """Whether the lease may be taken: free, or nothing changed for as long as a holder may be silent."""
        return self._seen is None or self._seen.is_free or self._silent >= self.limit

    @property
    def limit(self) -> float:
        """Seconds for which a holder may be silent."""
        return 0.0 if self._seen is None else min(self._patience * interval(self._seen), LONGEST)

    @property
    def pause(self) -> float:
        """Seconds until the next look."""
        return INTERVAL / LOOKS if self._seen is None else interval(self._seen) / LOOKS


def interval(seen: Seen) -> float:
    """Seconds between the heartbeats of a holder."""
    return INTERVAL if seen.holding is None else min(seen.holding.interval, LONGEST / PATIENCE)


def held(
    storage: Storage,
    folders: Iterable[str],
    *,
    tell: Callable[[str], None] = lambda text: None,
    sleep: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> set[str]:
    """Those of the leases that somebody holds; takes seconds where only watching can tell.

    Args:
        storage: where the leases are.
        folders: of the leases.
        tell: told, in words, what is waited for.
        sleep, clock: replaced in tests.
    """
    watches = {folder: LeaseWatch(clock=clock) for folder in folders}
    alive: set[str] = set()
    told = False
    while watches:
        seen = {folder: watch.observe(storage, folder) for folder, watch in watches.items()}
        alive |= {folder for folder, watch in watches.items() if watch.moved and not watch.is_over}
        watches = {f: w for f, w in watches.items() if f not in alive and not w.is_over}
        if not watches:
            break
        if not told:
            names = ", ".join(sorted({found.who for f, found in seen.items() if f in watches and found}))
            limit = max(watch.limit for watch in watches.values())
            tell(f"Waiting up to {limit:.0f} s to see whether {names} still runs")
            told = True
        sleep(max(watch.pause for watch in watches.values()))
    return alive
