"""Tells the pool now and then what a worker does, so that whoever watches the run sees it at work."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Any, Protocol, Self

from orchestrator.slots.gpu_use import GpuUse
from orchestrator.work.doing import Doing

FIRST_S = 0.5
"""Seconds until the first look: a worker that starts says so at once."""

TELL_S = 5.0
"""Seconds between two looks: hundreds of slots tell a driver some ten times a second together."""


class PoolConnection(Protocol):
    """Calls on the pool, answered before they return."""

    def __call__(self, method: str, *arguments: Any) -> Any: ...


class Teller:
    """Asks every few seconds what the worker does and tells the pool what changed; the work never waits.

    Args:
        pool, slot, worker: whom to tell, and in whose name.
        gpu: how busy the worker's GPU is.

    Attributes:
        look: what the worker does; None while it has no work. Called from the teller's thread.
    """

    def __init__(self, pool: PoolConnection, slot: str, worker: str, gpu: GpuUse | None = None) -> None:
        self._pool, self._slot, self._worker = pool, slot, worker
        self._gpu = gpu or GpuUse()
        self.look: Callable[[], Doing | None] = lambda: Doing(stage="importing")
        self._told: Doing | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tell, name="doing", daemon=True)

    def tell(self) -> None:
        """Look once, and tell what changed since the last time."""
        doing = self.look()
        if doing is not None and (used := self._gpu.read()) is not None:
            doing = replace(doing, gpu_busy=used.busy, gpu_bytes=used.bytes)
        if doing is not None and doing != self._told:
            self._pool("doing", self._slot, self._worker, doing)
        self._told = doing

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()

    def _tell(self) -> None:
        pause = FIRST_S
        while not self._over.wait(pause):
            pause = TELL_S
            with contextlib.suppress(Exception):  # nobody is told then, and the work goes on
                self.tell()
