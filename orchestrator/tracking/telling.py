"""Telling all of a study again, from its records alone."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from orchestrator.ledger import DriverLease, LeaseError, Ledger, StudyStore
from orchestrator.ledger.holding import observe
from orchestrator.ledger.local_state import local_state
from orchestrator.redaction import shown_uri
from orchestrator.study.model import Study, Tracking
from orchestrator.tracking.retelling import Label, Retelling
from orchestrator.tracking.study_run import WriteReport
from orchestrator.tracking.study_tracker import StudyTracker
from orchestrator.tracking.tracker import Told

PATIENCE_S = 120.0
"""Seconds without progress after which a server is given up."""

LOOK_S = 1.0
"""Seconds between looks at how far it is."""

FINISH_S = 30.0
"""Seconds for the last call, when everything was told."""


@dataclass(frozen=True, kw_only=True)
class Retold:
    """What became of it.

    Attributes:
        uri: where it was told, without secrets.
        rows: trials, reference rows and rows of a comparison that were told.
        missing: what the records no longer say, one line each.
        told: how it went.
    """

    uri: str
    rows: int
    missing: tuple[str, ...]
    told: Told

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {**vars(self), "missing": list(self.missing), "told": self.told.to_dict()}


def tell_study(
    study: Study,
    store: StudyStore,
    ledger: Ledger,
    to: Tracking | None = None,
    *,
    show: Callable[[int], object] = lambda rows: None,
    note: Callable[[str], None] = lambda text: None,
    label: Label = lambda record: None,
    report: WriteReport | None = None,
    patience: float = PATIENCE_S,
) -> Retold:
    """Tell a tracker everything that the records of a study say. What is there already stays as it is.

    Args:
        study, store, ledger: the study and its records.
        to: another place than the study's own.
        show: told now and then how many rows were told.
        note: told in words what is waited for.
        label: names rows of a comparison recorded by an older version.
        report: writes the study's report; None leaves it out.
        patience: seconds without progress after which a server is given up.

    Raises:
        LeaseError: a driver is at work, which tells the study's own tracker itself.
    """
    to = to or study.tracking
    if to.resolved_uri != study.tracking.resolved_uri and store.id:
        seen = observe(store.storage, f"studies/{store.name}/driver")
        running = seen is not None and not seen.is_free
        return _tell(study, store, ledger, to, 0, running, show, label, report, patience)
    with store.driver_lease() as lease:
        assert isinstance(lease, DriverLease)
        try:
            fence = lease.take(tell=note)
        except LeaseError as error:
            fix = "wait for its end: it sends everything itself. To send to another server now: --to URI"
            raise LeaseError(error.problem, where=error.where, fix=fix) from None
        if not store.id and (stored := store.load_study()) is not None:
            store.save_study(stored)  # by an older version: now it gets an id
        return _tell(study, store, ledger, to, fence, False, show, label, report, patience)


def _tell(
    study: Study,
    store: StudyStore,
    ledger: Ledger,
    to: Tracking,
    fence: int,
    running: bool,
    show: Callable[[int], object],
    label: Label,
    report: WriteReport | None,
    patience: float,
) -> Retold:
    uri = to.resolved_uri
    state = local_state(store.storage, store.name)
    outboxes = state / "outbox" if fence else state / f"to-{hashlib.sha256(uri.encode()).hexdigest()[:12]}"
    story = Retelling(store, ledger, label=label, running=running)
    about = (to, study, store, ledger, outboxes, fence)
    tracker = StudyTracker(*about, story=story, everything=True, report=report)
    tracker.tell_findings()
    quiet, rows = 0.0, 0
    while quiet < patience and not tracker.flush(LOOK_S):
        quiet = quiet + LOOK_S if tracker.retold == rows else 0.0
        rows = tracker.retold
        show(rows)
    told = tracker.close(timeout=0.0 if quiet >= patience else FINISH_S)
    if not fence and not told.refused:
        shutil.rmtree(outboxes, ignore_errors=True)
    return Retold(uri=shown_uri(uri), rows=tracker.retold, missing=tuple(story.missing), told=told)
