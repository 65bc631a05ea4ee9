"""Makes notices of what happens in a run: from what it shows, from its end, and from nothing happening."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

from orchestrator.ledger.documents import now
from orchestrator.notices.notice import Notice
from orchestrator.study.notify import NoticeKind, Notify
from orchestrator.tables.words import duration
from orchestrator.terminal.state import SweepState
from orchestrator.terminal.words import best_in_words, phase_in_words
from orchestrator.work.shown import BudgetShown, NoteShown, Shown, SlotShown, TrialShown, WorkShown

QUIET = (NoteShown, BudgetShown)
"""Events that are no progress of the work."""


@dataclass(frozen=True, kw_only=True)
class About:
    """What every notice of a run says.

    Attributes:
        study, study_id: whose it is.
        run: id of the invocation.
        again: the command that resumes the run.
        status, results: commands that show how it stands, and what it found.
    """

    study: str
    study_id: str
    run: str
    again: str
    status: str
    results: str


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a run ended.

    Attributes:
        state: see ``Outcome``; ``crashed``: by an error of this software.
        reason: why, unless it is complete.
        failed: trials that failed in it, or were lost.
        unscored: rows that lack a test score.
        winner: what the study found, in words; empty: say the best so far.
    """

    state: Literal["complete", "failed", "crashed", "terminated"]
    reason: str = ""
    failed: int = 0
    unscored: int = 0
    winner: str = ""


class Reporter:
    """Follows a run and puts notices of the wanted kinds where they are delivered from.

    Args:
        notify: what is wanted.
        about: the run.
        put: takes a notice.
        clock: seconds, monotonic.
        at: the time of an event.
    """

    def __init__(
        self,
        notify: Notify,
        about: About,
        put: Callable[[Notice], None],
        clock: Callable[[], float] = time.monotonic,
        at: Callable[[], str] = now,
    ) -> None:
        self._wanted: Collection[NoticeKind] = notify.events
        self._patience = notify.stalled_after_s
        self._about, self._put, self._clock, self._at = about, put, clock, at
        self._state = SweepState(clock)
        self._moved, self._stalls, self._stalled = clock(), 0, False

    def take(self, event: Shown) -> None:
        """Take anything that is shown of the run."""
        before = self._state.best
        if self._is_progress(event):
            self._moved, self._stalled = self._clock(), False
        self._state.apply(event)
        match event:
            case TrialShown(state="complete") if before is not None and self._state.best is not before:
                happened = f"trial {event.number} is better than all before"
                self._tell("improved", f"trial-{event.number}", happened, go=self._about.status)
            case BudgetShown():
                happened = f"the budget is spent ({event.budget})"
                more = f"No new trial starts; {event.running} in work will finish."
                self._tell("budget", event.budget, happened, more, go=self._about.again)
            case SlotShown(state="stopped"):
                left = sum(slot.state != "stopped" for slot in self._state.slots.values())
                more = f"{left} slots are left. Why: {event.what or 'see status'}"
                subject = f"{self._about.run}/{event.slot}"
                happened = f"slot {event.slot} takes no more work"
                self._tell("slot_lost", subject, happened, more, go=self._about.status)

    def look(self) -> None:
        """Tell once that nothing moves, if that has been so for too long."""
        silence = self._clock() - self._moved
        if self._stalled or silence < self._patience:
            return
        self._stalled, self._stalls = True, self._stalls + 1
        phase = phase_in_words(self._state)
        self._tell(
            "stalled",
            f"{self._about.run}/{self._stalls}",
            f"nothing has moved for {duration(round(silence))}",
            f"The run is alive, and at: {phase}.",
            go=self._about.status,
        )

    def ended(self, end: Ended) -> None:
        """The run is over."""
        if end.state == "complete":
            flaws = []
            if end.failed:
                flaws.append(f"{end.failed} trials failed or were lost")
            if end.unscored:
                flaws.append(f"{end.unscored} rows lack a test score")
            happened = "finished" + (f", but {' and '.join(flaws)}" if flaws else "")
            go = self._about.again if flaws else self._about.results
            self._tell("finished", self._about.run, happened, winner=end.winner, go=go)
            return
        happened = {
            "failed": "the run could not go on",
            "crashed": "the run broke off with an error",
            "terminated": "the run was ended by a signal",
        }[end.state]
        self._tell("failed", self._about.run, happened, end.reason, go=self._about.again)

    def _is_progress(self, event: Shown) -> bool:
        if isinstance(event, QUIET):
            return False
        if isinstance(event, WorkShown):
            slot = self._state.slots.get(event.slot)
            return slot is None or slot.doing is None or slot.doing.position != event.doing.position
        return True

    def _tell(
        self, kind: NoticeKind, subject: str, happened: str, more: str = "", *, winner: str = "", go: str
    ) -> None:
        if kind not in self._wanted:
            return
        state = self._state
        trials = f"{state.ended} of {state.target} trials have ended." if state.target else ""
        winner = winner or f"Best so far: {best_in_words(state.best)}"
        lines = [line for line in (more, trials, winner, f"Go on with: {go}") if line]
        self._put(
            Notice.of(
                kind,
                study=self._about.study,
                study_id=self._about.study_id,
                subject=subject,
                happened=happened,
                lines="\n".join(lines),
                at=self._at(),
            )
        )
