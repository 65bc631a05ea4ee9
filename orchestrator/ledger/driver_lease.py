"""Which driver runs a study."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from orchestrator.ledger.lease import Lease
from orchestrator.ledger.storage import Storage


class DriverLease(Lease):
    """The right to run a study. ``take`` refuses while another driver lives."""

    def __init__(self, storage: Storage, study: str, *, invocation: str = "", **options: Any) -> None:
        super().__init__(storage, f"studies/{study}/driver", invocation=invocation, **options)
        self._study = study

    def take(
        self,
        tell: Callable[[str], None] = lambda text: None,
        pause: Callable[[float], bool | None] = time.sleep,
    ) -> int:
        """The fence. Waits where only watching tells whether another driver lives; see ``Lease.acquire``.

        Raises:
            LeaseError: naming the process that holds the lease, and since when.
            WaitEnded: ``pause`` said so.
        """
        return self.acquire(
            what=f"study {self._study!r}",
            fix="wait for it or stop it there; if it was killed its lease runs out by itself",
            tell=tell,
            pause=pause,
        )
