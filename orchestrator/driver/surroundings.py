"""What a session works with."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

from orchestrator.driver.interrupt import Interrupt
from orchestrator.ledger import DriverLease, Invocation, Ledger, StudyStore
from orchestrator.study import StudyPlan
from orchestrator.tracking.tracker import NoTracker, Tracker
from orchestrator.work.shown import Progress


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a session works with.

    Attributes:
        plan: the study.
        store, ledger: its records.
        tracker, progress: told of everything.
        invocation: filled with what was trained and where the time went.
        lease: of the driver; losing it ends the session.
        interrupt: ends the session when the user wants it.
        folder: local, for what Ray writes.
        executor: factory of what the workers run.
        started: set once a worker is at work.
    """

    plan: StudyPlan
    store: StudyStore
    ledger: Ledger
    tracker: Tracker | NoTracker
    progress: Progress
    invocation: Invocation
    lease: DriverLease
    interrupt: Interrupt
    folder: Path
    executor: str
    started: threading.Event
