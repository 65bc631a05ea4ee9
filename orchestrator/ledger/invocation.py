"""The record of one run of a driver."""

from __future__ import annotations

import dataclasses
import re
import secrets
from dataclasses import dataclass, field
from typing import Any

from orchestrator.ledger.documents import CorruptError, now

QUEUE = "queue"
"""Stands among names of slots for the work queue itself."""


@dataclass(kw_only=True)
class Invocation:
    """One run of a driver.

    Attributes:
        id: sortable by time.
        command: what was run.
        trained: keys of the cells this invocation finished (``trained_now``).
        reused: keys of the cells it found finished.
        timing: seconds by part: ``start_up``, ``training``, ``evaluation``, ``per_trial_overhead``, …
        outcome: ``running``, ``complete``, ``interrupted`` or ``failed``.
        provenance: versions, commit, device.
        quarantined: slots that failed too often in a row: ``{slot, node, reason, at}``.
        silent: who has not responded for a while, while it runs: ``{name, since}``; a slot, or
            ``QUEUE``.
        scoring: keys of cells that it set out to score on the test images; nobody drops their weights.
        held: when slots were at work on what is no trial (probes, reference rows, test images):
            ``{item, slot, start, end}``; trials keep their own in ``attributes``.
    """

    id: str = field(default_factory=lambda: invocation_id())
    command: str = ""
    started_at: str = field(default_factory=now)
    ended_at: str | None = None
    outcome: str = "running"
    trained: list[str] = field(default_factory=list)
    reused: list[str] = field(default_factory=list)
    timing: dict[str, float] = field(default_factory=dict)
    fence: int = 0
    provenance: dict[str, Any] = field(default_factory=dict)
    quarantined: list[dict[str, Any]] = field(default_factory=list)
    silent: list[dict[str, Any]] = field(default_factory=list)
    scoring: list[str] = field(default_factory=list)
    held: list[dict[str, Any]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Invocation:
        """What was given to ``to_dict``; fields of other versions are left out. Raises CorruptError."""
        known = {f.name for f in dataclasses.fields(cls)}
        found = {name: value for name, value in data.items() if name in known}
        kinds = {"id": str, "fence": int, "started_at": str, "trained": list, "timing": dict}
        for name, kind in kinds.items():
            if not isinstance(found.get(name), kind):
                raise CorruptError(f"its field {name} is {found.get(name)!r:.40}")
        return cls(**found)


def invocation_id() -> str:
    """A new id: the time, then four random digits."""
    return f"{re.sub(r'[^0-9]', '', now()[:19])}-{secrets.token_hex(2)}"
