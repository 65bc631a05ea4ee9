"""Who holds a lease, as its files say.

A lease is a folder of files ``<fence>.json``; the highest number is the current one.
"""

from __future__ import annotations

import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.ledger.documents import CorruptError, decode
from orchestrator.ledger.storage import Storage

AGAIN = 3
"""Attempts to read the newest file of a lease: whoever takes the lease next deletes it, and where files are
not written in one step its holder may just be renewing it."""


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
            started=_process(os.getpid())[1],
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
        except (ProcessLookupError, OverflowError):
            return True
        except PermissionError:
            return False
        state, started = _process(self.pid)
        return state in ("Z", "X") or started != self.started

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@dataclass(frozen=True, kw_only=True)
class Holding:
    """Content of a lease file: who holds fence ``fence``, since when, and its last heartbeat.

    ``acquired_at`` and ``heartbeat_at`` are by the clock of the holder's host: for people, never compared.
    """

    fence: int
    owner: Owner
    acquired_at: str
    heartbeat_at: str
    beats: int
    interval: float
    released: bool

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "owner": vars(self.owner)}


@dataclass(frozen=True)
class Seen:
    """The newest file of a lease as it was found.

    Attributes:
        fence: its number.
        data: its content; any change of it is a sign of life.
        holding: what it says; None if it cannot be read. Where files are not created in one step, somebody
            may just be taking the lease.
    """

    fence: int
    data: bytes
    holding: Holding | None

    @property
    def is_free(self) -> bool:
        """Whether the lease was released, or its holder is known to be dead; False proves nothing."""
        return self.holding is not None and (self.holding.released or self.holding.owner.is_dead())

    @property
    def who(self) -> str:
        """The holder, in words."""
        return (
            "a process whose lease file cannot be read" if self.holding is None else str(self.holding.owner)
        )


def observe(storage: Storage, folder: str) -> Seen | None:
    """The newest file of a lease; None if nobody ever held it. A listing and a read."""
    for _ in range(AGAIN):
        fence = current_fence(storage, folder)
        data = storage.read(f"{folder}/{fence}.json") if fence else None
        if data is not None and (holding := _parse(data)) is not None:
            return Seen(fence, data, holding)
    return Seen(fence, data or b"", None) if fence else None


def current_fence(storage: Storage, folder: str) -> int:
    """The highest fence ever taken there; 0 if none. One listing."""
    return max(fences(storage, folder), default=0)


def read_holding(storage: Storage, folder: str) -> Holding | None:
    """The current holding, released or not; None if there never was one or its file is damaged."""
    seen = observe(storage, folder)
    return None if seen is None else seen.holding


def fences(storage: Storage, folder: str) -> list[int]:
    """Numbers of the files of a lease. One listing."""
    stems = (name.removesuffix(".json") for name in storage.names(folder))
    return [int(stem) for stem in stems if stem.isdecimal()]


def _parse(data: bytes) -> Holding | None:
    try:
        fields = decode(data)
        found = Holding(**{**fields, "owner": Owner(**fields["owner"])})
        known = isinstance(found.owner.pid, int) and isinstance(found.interval, int | float)
    except (CorruptError, TypeError, KeyError):
        return None
    return found if known and found.interval > 0 else None


def _process(pid: int) -> tuple[str, str]:
    """State and start time of a process (Linux); the time, in clock ticks since boot, tells a reused pid."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[0], fields[19]
    except (OSError, IndexError):
        return "", ""


def _namespace() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""
