"""Which Ray a run uses."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cluster:
    """Where a run computes.

    Attributes:
        address: of a Ray, as of ``RAY_ADDRESS``; None: where that says, else one of this machine's own.
        workers: actors that label; None: one for each GPU, or each core.
    """

    address: str | None = None
    workers: int | None = None
