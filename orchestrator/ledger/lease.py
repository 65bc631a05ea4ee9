"""One holder at a time, over a shared folder: the driver of a study, the worker that computes a shared probe.

A lease is a folder of files ``<fence>.json``; the highest number is the current one. To take the lease is
to create the next number, which at most one contender can do, so the fencing number only grows and two
drivers never share one. The holder rewrites its file with every heartbeat. Another may take over when the
holder released the lease, when its process is dead on this host, or when its heartbeat is older than
``patience`` intervals; across hosts, whose clocks may differ, an old heartbeat must in addition stand still
while it is watched.

Object stores have no exclusive creation in ``pyarrow.fs``. There the contender writes the next number,
waits for ``settle`` seconds and reads it again: the last writer holds the lease, every other one withdraws.
Two contenders whose writes lie further apart than ``settle`` can both believe for up to one heartbeat that
they hold it; then the overwritten one finds the other's name in its file and counts as having lost the
lease. That cannot harm results: cells are content-addressed, records are whole or absent, and only work may
be done twice.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from mmap_model.errors import InputError
from orchestrator.ledger.documents import CorruptError, decode, encode, now
from orchestrator.ledger.storage import Storage

INTERVAL = 5.0
"""Seconds between heartbeats."""

PATIENCE = 6
"""Intervals without a heartbeat after which a holder counts as dead."""

SETTLE = 2.0
"""Seconds after which a write to an object store is taken to be the last of its contenders."""


class LeaseError(InputError):
    """Somebody else holds the lease; the message says who and since when."""


@dataclass(frozen=True, kw_only=True)
class Owner:
    """Who holds a lease. ``namespace`` tells machines, containers and reboots apart; ``token`` is unique."""

    host: str
    pid: int
    started: str
    namespace: str
    invocation: str
    token: str

    @classmethod
    def this_process(cls, invocation: str) -> Owner:
        return cls(
            host=socket.gethostname(),
            pid=os.getpid(),
            started=_process_start(os.getpid()),
            namespace=_namespace(),
            invocation=invocation,
            token=secrets.token_hex(8),
        )

    def is_dead(self) -> bool:
        """True only if this host can tell that the process is gone."""
        if (self.host, self.namespace) != (socket.gethostname(), _namespace()):
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return _process_start(self.pid) != self.started


@dataclass(frozen=True, kw_only=True)
class Holding:
    """Content of a lease file: who holds fence ``fence``, since when, and its last heartbeat."""

    fence: int
    owner: Owner
    acquired_at: str
    heartbeat_at: str
    beats: int
    interval: float
    released: bool

    @property
    def age(self) -> float:
        """Seconds since the last heartbeat, by the clocks of the two hosts."""
        return (datetime.now(UTC) - datetime.fromisoformat(self.heartbeat_at)).total_seconds()

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "owner": vars(self.owner)}


class Lease:
    """One lease, seen by one contender. Use as a context manager, or ``acquire`` and ``release``.

    Attributes:
        fence: the number held, 0 before ``acquire``.
        lost: set when a heartbeat finds that another holder took over; the holder must then stop writing.
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
    ) -> None:
        self._storage = storage
        self._folder = folder
        self._owner = Owner.this_process(invocation)
        self._interval = interval
        self._patience = patience
        self._settle = settle
        self._acquired_at = ""
        self._beats = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.fence = 0
        self.lost = threading.Event()

    def try_acquire(self) -> Holding | None:
        """Take the lease and start the heartbeat; the live holder if there is one, None on success."""
        assert not self.fence, "this lease is held already"
        while True:
            fence = current_fence(self._storage, self._folder) + 1
            current = _read(self._storage, self._folder, fence - 1)
            if current and not current.released and self._is_live(current):
                return current
            self._acquired_at = now()
            if not self._storage.create(self._path(fence), self._content(fence)):
                continue
            if not self._storage.exclusive:
                time.sleep(self._settle)
                last = read_holding(self._storage, self._folder)
                if last and (last.fence, last.owner.token) != (fence, self._owner.token):
                    continue
            self.fence = fence
            for name in _fences(self._storage, self._folder):
                if name < fence:
                    self._storage.delete(self._path(name))
            self._thread = threading.Thread(target=self._beat, name="lease-heartbeat", daemon=True)
            self._thread.start()
            return None

    def acquire(self, *, what: str, fix: str) -> int:
        """Take the lease and return its fence.

        Args:
            what: begins the message, e.g. ``study 'demo'``.
            fix: what the user can do if the lease is held.

        Raises:
            LeaseError: another live process holds it.
        """
        holder = self.try_acquire()
        if holder is not None:
            owner = holder.owner
            raise LeaseError(
                f"{what} is being driven by process {owner.pid} on {owner.host} since {holder.acquired_at} "
                f"(invocation {owner.invocation or '?'}, last heartbeat {max(0.0, holder.age):.0f} s ago)",
                where=self._storage.locate(self._path(holder.fence)),
                fix=fix,
            )
        return self.fence

    def release(self) -> None:
        """Stop the heartbeat and let the next contender in at once. Harmless if the lease was lost."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        with contextlib.suppress(OSError):
            if self.fence and not self.lost.is_set() and self._is_mine():
                self._storage.write(self._path(self.fence), self._content(self.fence, released=True))
        self.fence = 0

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
                    self.lost.set()
                    return
                self._beats += 1
                self._storage.write(self._path(self.fence), self._content(self.fence))
            except OSError:
                continue  # the storage is away for a while; the next beat tries again

    def _is_mine(self) -> bool:
        holding = read_holding(self._storage, self._folder)
        return holding is None or (holding.fence == self.fence and holding.owner.token == self._owner.token)

    def _is_live(self, holding: Holding) -> bool:
        if holding.owner.is_dead():
            return False
        if holding.age <= self._patience * holding.interval:
            return True
        if holding.owner.namespace == _namespace():
            return False
        time.sleep(1.5 * holding.interval)
        later = read_holding(self._storage, self._folder)
        return later is not None and (later.fence, later.beats) != (holding.fence, holding.beats)

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


def current_fence(storage: Storage, folder: str) -> int:
    """The highest fence ever taken there; 0 if none. One listing."""
    return max(_fences(storage, folder), default=0)


def read_holding(storage: Storage, folder: str) -> Holding | None:
    """The current holding, released or not; None if there never was one or its file is damaged."""
    return _read(storage, folder, current_fence(storage, folder))


def _read(storage: Storage, folder: str, fence: int) -> Holding | None:
    data = storage.read(f"{folder}/{fence}.json") if fence else None
    if data is None:
        return None
    try:
        fields = decode(data)
        return Holding(**{**fields, "owner": Owner(**fields["owner"])})
    except (CorruptError, TypeError, KeyError):
        return None


def _fences(storage: Storage, folder: str) -> list[int]:
    stems = (name.removesuffix(".json") for name in storage.names(folder))
    return [int(stem) for stem in stems if stem.isdecimal()]


def _process_start(pid: int) -> str:
    """Start time of a process in clock ticks since boot (Linux), which tells a reused pid; else empty."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _namespace() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""
