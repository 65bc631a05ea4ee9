"""A run's tracker, and its end: MLflow is told the rest, and the user why that takes a while."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from orchestrator.compare.columns import recorded_run_name
from orchestrator.driver.interrupt import Interrupt
from orchestrator.ledger import Ledger, StudyStore
from orchestrator.ledger.local_state import local_state
from orchestrator.ledger.told import ToldStore
from orchestrator.study import StudyPlan
from orchestrator.tracking.outbox import news_left
from orchestrator.tracking.retelling import Retelling
from orchestrator.tracking.study_run import WriteReport
from orchestrator.tracking.study_tracker import StudyTracker
from orchestrator.tracking.tracker import NoTracker, Told, Tracker
from orchestrator.work.shown import NoteShown, PhaseShown, Progress

PATIENCE_S = 30.0
"""Seconds without an answer after which a server in trouble is given up; see ``Courier.close``."""

HURRY_S = 1.0
"""The same where the user ended the run: the next one tells the rest."""

SAY_S = 5.0
"""Seconds after which the user is told what is waited for."""


def open_tracker(
    plan: StudyPlan,
    store: StudyStore,
    ledger: Ledger,
    fence: int,
    gate: threading.Event,
    report: WriteReport | None = None,
) -> Tracker:
    """A tracker that connects once ``gate`` opens: importing MLflow would compete with the workers' start."""
    return StudyTracker(
        plan.study.tracking,
        plan.study,
        store,
        ledger,
        _outboxes(store),
        fence,
        story=Retelling(store, ledger, label=recorded_run_name),
        before_connect=gate.wait,
        report=report,
    )


def tell_left(
    plan: StudyPlan,
    store: StudyStore,
    ledger: Ledger,
    fence: int,
    progress: Progress,
    interrupt: Interrupt,
    report: WriteReport | None = None,
) -> Told:
    """Tell MLflow what earlier drivers could not tell, though nothing else is to be done."""
    if ToldStore(store.storage, store.name).is_complete() and not news_left(_outboxes(store)):
        return Told()
    at_once = threading.Event()
    at_once.set()
    return deliver_rest(open_tracker(plan, store, ledger, fence, at_once, report), progress, interrupt)


def deliver_rest(tracker: Tracker | NoTracker, progress: Progress, interrupt: Interrupt) -> Told:
    """Close the tracker. As long as the server takes something it is told the rest; Ctrl-C ends that.

    Args:
        tracker: of the run.
        progress: told what is waited for, if it takes a while.
        interrupt: of the run.
    """
    began, said = time.monotonic(), False
    progress(PhaseShown(name="tracking"))

    def hurry() -> bool:
        nonlocal said
        if not said and time.monotonic() - began >= SAY_S:
            said = True
            progress(NoteShown(text="Sending MLflow the rest; Ctrl-C leaves it to the next run"))
        return interrupt.requested.is_set()

    return tracker.close(HURRY_S if interrupt.requested.is_set() else PATIENCE_S, hurry)


def _outboxes(store: StudyStore) -> Path:
    return local_state(store.storage, store.name) / "outbox"
