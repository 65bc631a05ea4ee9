"""A driver that died cannot tell so: whoever looks at the study next does, once."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

from orchestrator.ledger import Invocation, StudyStore
from orchestrator.ledger.documents import encode, now
from orchestrator.ledger.holding import Seen
from orchestrator.ledger.watch import PATIENCE, interval
from orchestrator.notices.notice import Notice

WATCHED = "watched.json"
"""Beside the notices: what was seen last of a driver elsewhere, and since when by this host's clock."""


def died(
    seen: Seen | None, last: Invocation | None, folder: Path, clock: Callable[[], float] = time.time
) -> bool:
    """Whether the driver of the last run died without an end.

    On this host its process is asked for. Of one elsewhere only its beats tell: if they stand still between
    two looks that lie further apart, by the clock of whoever looks, than a driver may be silent, it is dead.

    Args:
        seen: the newest file of its lease.
        last: the latest invocation on record.
        folder: local, of the study's notices; remembers what was seen.
        clock: seconds of this host since 1970.
    """
    if seen is None or last is None or last.outcome != "running":
        return False
    if seen.holding is not None and seen.holding.released:
        return False  # it ended in order, though that could not be recorded
    return seen.is_free or _stands_still(seen, folder / WATCHED, clock())


def notice_of_death(store: StudyStore, last: Invocation, again: str, best: str) -> Notice | None:
    """The notice that a study's driver died; None if somebody else has told it.

    Args:
        store: of the study; remembers that it was told.
        last: the invocation that has no end.
        again: the command that resumes it.
        best: the best trial so far, in words.
    """
    claim = f"studies/{store.name}/notices/stalled-{last.id}.json"
    if store.storage.read(claim) is not None:
        return None
    if not store.storage.create(claim, encode({"invocation": last.id, "at": now()})):
        return None
    return Notice.of(
        "stalled",
        study=store.name,
        study_id=store.id,
        subject=f"{last.id}/died",
        happened="its driver died, nothing runs",
        lines=f"The run that began {last.started_at[:19].replace('T', ' ')} UTC has ended without a word: "
        f"its process was killed, or its machine is gone. Everything finished is kept.\nBest so far: {best}\n"
        f"Go on with: {again}",
        at=now(),
    )


def _stands_still(seen: Seen, path: Path, clock: float) -> bool:
    data = hashlib.sha256(seen.data).hexdigest()
    try:
        known = json.loads(path.read_text())
        if known["data"] == data and known["since"] <= clock:
            return bool(clock - known["since"] >= PATIENCE * interval(seen))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_text(json.dumps({"data": data, "since": clock}))
    return False
