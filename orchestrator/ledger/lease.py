"""One holder at a time, over a shared folder: the driver of a study, the worker that computes a shared probe.

To take the lease is to create the file with the next number (see ``orchestrator.ledger.holding``), which at
most one contender can do, so the fencing number only grows and two drivers never share one. The holder
rewrites its file with every heartbeat. Another may take over when the holder released the lease, when its
process is dead on this host, or when its file stood still for ``patience`` intervals while the contender
watched (see ``orchestrator.ledger.watch``). A file that cannot be read counts as held until then.

Object stores have no exclusive creation in ``pyarrow.fs``. There a contender takes a number that nobody else
takes, at random above the last one, waits for ``settle`` seconds and looks again: the highest number holds
the lease, every other contender withdraws. Two contenders whose writes lie further apart than ``settle`` can
both believe for up to one heartbeat that they hold it; then the lower one finds the higher and counts as
having lost the lease. That cannot harm results: cells are content-addressed, records carry the number of who
wrote them, and only work may be done twice.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Callable
from types import TracebackType

from mmap_model.errors import InputError
from orchestrator.ledger.documents import encode, now
from orchestrator.ledger.holding import Holding, Owner, Seen, fences, observe
from orchestrator.ledger.storage import Storage
from orchestrator.ledger.watch import INTERVAL, PATIENCE, LeaseWatch

SETTLE = 2.0
"""Seconds after which a write to an object store is taken to be the last of its contenders."""

SPREAD = 2**20
"""Range of the random part of a number on object stores."""

LATE = 2.0
"""Intervals after its last heartbeat from which on a holder asks the storage before it trusts its lease."""


class LeaseError(InputError):
    """Somebody else holds the lease; the message says who and since when."""


class WaitEnded(Exception):
    """The user does not want to wait for the lease any longer."""


def _awake() -> float:
    """Seconds that include those in which the machine slept, where the system counts them."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Lease:
    """One lease, seen by one contender. Use as a context manager, or ``acquire`` and ``release``.

    Args:
        storage, folder: where it is.
        invocation: of the contender, for people.
        interval: seconds between heartbeats.
        patience: intervals of silence after which a holder counts as dead.
        settle: seconds to wait for other contenders where the storage has no exclusive creation.
        clock: seconds, monotonic; replaced in tests.

    Attributes:
        fence: the number held, 0 before ``acquire``.
        lost: set once another holder was found; this one must then stop writing.
        successor: the other holder.
    """

    def __init__(
        self,
        storage: Storage,
        folder: str,
        *,
        invocation: str = "",
        interval: float = INTERVAL,
        patience: int = PATIENCE,
        settle: float = SETTLE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._storage = storage
        self._folder = folder
        self._owner = Owner.this_process(invocation)
        self._interval = interval
        self._settle = settle
        self._watch = LeaseWatch(patience=patience, clock=clock)
        self._acquired_at = ""
        self._beats = 0
        self._beaten = 0.0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.fence = 0
        self.lost = threading.Event()
        self.successor: Seen | None = None

    def try_acquire(self) -> Seen | None:
        """Take the lease and start the heartbeat if it is free now; else what was seen of its holder.

        Returns at once. Whether a holder is alive shows only over several calls: a contender that wants the
        lease keeps calling, about as often as a holder beats or more.
        """
        assert not self.fence, "this lease is held already"
        while True:
            seen = self._watch.observe(self._storage, self._folder)
            if seen is not None and not self._watch.is_over:
                return seen
            fence = (0 if seen is None else seen.fence) + 1
            if not self._storage.exclusive:
                fence += secrets.randbelow(SPREAD)
            self._acquired_at = now()
            if not self._storage.create(self._path(fence), self._content(fence)):
                continue
            if not self._storage.exclusive and not self._has_settled(fence):
                continue
            self.fence, self._beaten = fence, _awake()
            for name in fences(self._storage, self._folder):
                if name < fence:
                    self._storage.delete(self._path(name))
            self._thread = threading.Thread(target=self._beat, name="lease-heartbeat", daemon=True)
            self._thread.start()
            return None

    def acquire(
        self,
        *,
        what: str,
        fix: str,
        tell: Callable[[str], None] = lambda text: None,
        pause: Callable[[float], bool | None] = time.sleep,
    ) -> int:
        """Take the lease and return its fence; a holder of whom nothing is known is watched for a while.

        Args:
            what: begins the message, e.g. ``study 'demo'``.
            fix: what the user can do if the lease is held.
            tell: told, in words, what is waited for.
            pause: waits for so many seconds; True ends the wait.

        Raises:
            LeaseError: another live process holds it.
            WaitEnded: ``pause`` said so.
        """
        told = False
        while (seen := self.try_acquire()) is not None:
            if self._watch.moved:
                raise self._refusal(seen, what, fix)
            if not told:
                limit = f"{self._watch.limit:.0f} s"
                tell(f"Waiting up to {limit} to see whether {seen.who}, which holds {what}, still runs")
                told = True
            if pause(self._watch.pause):
                raise WaitEnded
        return self.fence

    def release(self) -> None:
        """Stop the heartbeat and let the next contender in at once. Harmless if the lease was lost."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        with contextlib.suppress(OSError):
            if self.fence and self._is_mine():
                self._storage.write(self._path(self.fence), self._content(self.fence, released=True))
        self.fence = 0

    def holds(self) -> bool:
        """Whether the lease is still held, as far as is known; asks the storage if a heartbeat is late.

        A process that was stopped, or whose machine slept, finds out with its first question. It may be
        stopped again after the answer: what it then writes must be harmless by other means.
        """
        if self.fence and not self.lost.is_set() and _awake() - self._beaten > LATE * self._interval:
            with contextlib.suppress(OSError):
                if self._is_mine():
                    self._beaten = _awake()
        return not self.lost.is_set()

    @property
    def successor_in_words(self) -> str:
        """Who took the lease over, e.g. ``process 12 on gpu-3 (invocation …), since …``."""
        if self.successor is None:
            return "another process"
        holding = self.successor.holding
        if holding is None:
            return f"another process (fence {self.successor.fence})"
        return f"{holding.owner} (invocation {holding.owner.invocation or '?'}), since {holding.acquired_at}"

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _beat(self) -> None:
        while not self._stop.wait(self._interval):
            try:
                if not self._is_mine():
                    return
                self._beats += 1
                self._storage.write(self._path(self.fence), self._content(self.fence))
                self._beaten = _awake()
            except OSError:
                continue  # the storage is away for a while; the next beat tries again

    def _is_mine(self) -> bool:
        """Whether the newest file is this holder's; one that cannot be read is only if it has its number."""
        if self.lost.is_set():
            return False
        seen = observe(self._storage, self._folder)
        if seen is None or seen.fence < self.fence:
            return True  # somebody deleted the file: the next heartbeat writes it again
        holding = seen.holding
        if seen.fence == self.fence and (holding is None or holding.owner.token == self._owner.token):
            return True
        self.successor = seen
        self.lost.set()
        return False

    def _has_settled(self, fence: int) -> bool:
        time.sleep(self._settle)
        last = observe(self._storage, self._folder)
        if last is None or last.fence <= fence:
            return True
        self._storage.delete(self._path(fence))
        return False

    def _refusal(self, seen: Seen, what: str, fix: str) -> LeaseError:
        since = f" since {seen.holding.acquired_at}" if seen.holding else ""
        invocation = (seen.holding.owner.invocation if seen.holding else "") or "?"
        return LeaseError(
            f"{what} is being run by {seen.who}{since} (invocation {invocation}); it is alive: its lease "
            "was renewed just now",
            where=self._storage.locate(self._path(seen.fence)),
            fix=fix,
        )

    def _content(self, fence: int, *, released: bool = False) -> bytes:
        return encode(
            Holding(
                fence=fence,
                owner=self._owner,
                acquired_at=self._acquired_at,
                heartbeat_at=now(),
                beats=self._beats,
                interval=self._interval,
                released=released,
            ).to_dict()
        )

    def _path(self, fence: int) -> str:
        return f"{self._folder}/{fence}.json"
