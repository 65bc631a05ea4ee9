"""A run's notices: made of what it shows and how it ends, delivered beside it."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from orchestrator.commands import command
from orchestrator.ledger import StudyStore
from orchestrator.ledger.holding import observe
from orchestrator.ledger.local_state import local_state
from orchestrator.ledger.storage import Storage
from orchestrator.notices.addresses import hide_addresses
from orchestrator.notices.box import NoticeBox
from orchestrator.notices.carrier import Carrier, CarrierThread, Rest
from orchestrator.notices.delivery import Send, send
from orchestrator.notices.notice import Notice
from orchestrator.notices.reporter import About, Ended, Reporter
from orchestrator.notices.stalled import died, notice_of_death
from orchestrator.study.notify import Notify
from orchestrator.work.shown import Progress, Shown

CLOSE_S = 10.0
"""Seconds that the end of a run waits for receivers."""

logger = logging.getLogger(__name__)


def notices_folder(storage: Storage, study: str) -> Path:
    """Where the notices of a study wait on this machine."""
    return local_state(storage, study) / "notices"


class NoNotices:
    """Nobody is to be told."""

    def beside(self, progress: Progress) -> Progress:
        """What is shown of the run, followed."""
        return progress

    def ended(self, end: Ended) -> None:
        """The run is over."""

    def close(self, hurry: Callable[[], bool]) -> str | None:
        """Deliver what is left for a while; what the user should know of the rest."""


class RunNotices(NoNotices):
    """Those of one run. Nothing here delays or fails it: messages go to disk, and from there beside it.

    Args:
        notify: who is told, and of what.
        store: of the study, taken over.
        run: id of the invocation.
        again: the command that resumes it.
        send: sends one message; replaced in tests.
    """

    def __init__(self, notify: Notify, store: StudyStore, run: str, again: str, *, send: Send = send) -> None:
        hide_addresses(notify)
        self._notify = notify
        root = store.storage.root
        self._status = command("status", store.name, storage=root)
        about = About(
            study=store.name,
            study_id=store.id,
            run=run,
            again=again,
            status=self._status,
            results=command("results", store.name, storage=root),
        )
        self._box = NoticeBox(notices_folder(store.storage, store.name))
        self._reporter = Reporter(notify, about, self._put)
        carrier = Carrier(self._box, notify.to, send)
        self._thread = CarrierThread(carrier, self._box, self._look)

    def beside(self, progress: Progress) -> Progress:
        def both(event: Shown) -> None:
            progress(event)
            try:
                self._reporter.take(event)
            except Exception:
                logger.exception("A notice of what just happened could not be sent")

        return both

    def ended(self, end: Ended) -> None:
        try:
            self._reporter.ended(end)
        except Exception:
            logger.exception("The notice that this run ended could not be sent")

    def close(self, hurry: Callable[[], bool]) -> str | None:
        return in_words(self._thread.close(CLOSE_S, hurry), self._status)

    def _put(self, notice: Notice) -> None:
        if self._box.put(notice, self._notify.to):
            self._thread.wake()

    def _look(self) -> None:
        try:
            self._reporter.look()
        except OSError as error:
            logger.warning("A notice could not be written: %s", error)


def open_notices(
    notify: Notify | None, store: StudyStore, run: str, again: str, *, send: Send = send
) -> NoNotices:
    """The notices of a run that begins; see `RunNotices`."""
    return NoNotices() if notify is None else RunNotices(notify, store, run, again, send=send)


def in_words(rest: Rest, status: str) -> str | None:
    """What waits and why, for the user; None if nothing does."""
    if not rest.waiting:
        return None
    what = "1 notice has" if rest.waiting == 1 else f"{rest.waiting} notices have"
    errors = "; ".join(f"{name}: {error}" for name, error in rest.errors.items())
    return f"{what} not been delivered ({errors or 'no answer yet'}); this sends them: {status}"


def unasked(number: signal.Signals | None) -> bool:
    """Whether a run was ended by a signal that nobody at its terminal sent."""
    return number in (signal.SIGTERM, signal.SIGHUP)


def look_after(notify: Notify, store: StudyStore, *, again: str, best: str, send: Send = send) -> Rest:
    """Tell that the driver of a study died, if it did, and deliver what its runs could not.

    For whoever looks at a study. While a driver runs on this machine it delivers by itself.

    Args:
        notify: who is told, and of what.
        store: of the study.
        again: the command that resumes it.
        best: the best trial so far, in words.
        send: sends one message; replaced in tests.
    """
    hide_addresses(notify)
    folder = notices_folder(store.storage, store.name)
    box = NoticeBox(folder)
    if "stalled" in notify.events:
        invocations = store.load_invocations()
        last = invocations[-1] if invocations else None
        seen = observe(store.storage, f"studies/{store.name}/driver")
        if last is not None and died(seen, last, folder):
            notice = notice_of_death(store, last, last.command or again, best)
            if notice is not None:
                box.put(notice, notify.to)
    carrier = Carrier(box, [name for name in notify.to if os.environ.get(name)], send)
    if not box.waiting():
        return carrier.rest()
    with box.hold() as mine:
        if mine:
            carrier.look()
        return replace(carrier.rest(), elsewhere=not mine)
