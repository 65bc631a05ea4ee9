"""A sweep as plain lines, one per event that matters: for logs, pipes and CI.

``docs/logs.md`` lists the lines; what others search for stands in ``key=value``, before any colon.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Self

from rich.console import Console

from orchestrator.tables.model import NONE
from orchestrator.tables.words import accuracy, configuration, duration
from orchestrator.terminal.stamped import StampedLines, pairs, utc_now
from orchestrator.terminal.state import SlotState, SweepState, TrialProgress
from orchestrator.terminal.words import (
    PHASES,
    best_in_words,
    left_in_words,
    phase_in_words,
    work_in_words,
)
from orchestrator.work.doing import STAGES
from orchestrator.work.shown import (
    BudgetShown,
    CellFailureShown,
    EpochShown,
    NoteShown,
    PhaseShown,
    Shown,
    SlotShown,
    SweepShown,
    TrialShown,
    WorkShown,
)

SHOWN_SLOTS = 4
"""Slots that a line about what goes on describes."""

TOLD_STAGES = ("importing", "backbone", "data")
"""Stages of a worker that get a line of their own: it starts, once in its life."""


EPOCHS_S = 5.0
"""Seconds between two lines of a trial's epochs that have no accuracy: hundreds of them take seconds."""


class LineDisplay:
    """Prints ``2026-11-26T19:20:31Z epoch trial=3 epoch=2/5 accuracy=48.1``; nothing is redrawn.

    Within its context no silence is longer than ``stamped.QUIET_S``, and what a busy machine adds to it.

    Args:
        console: where to.
        clock: seconds, monotonic.
        now: the time that stands in a line.
    """

    def __init__(
        self,
        console: Console,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self.state = SweepState(clock)
        self.lines = StampedLines(console, self._still, clock=clock, now=now)
        self._lock = threading.RLock()
        self._announced: set[int] = set()
        self._clock = clock
        self._epoch_said: dict[int, float] = {}

    def apply(self, event: Shown) -> None:
        """Take an event in, and say it if it matters."""
        with self._lock:
            before = self.state.best
            text = self._before(event)
            self.state.apply(event)
            if isinstance(event, TrialShown):
                text = self._trial(event)
            if text is not None:
                self.lines.say(text)
            best = self.state.best
            if best is not None and best is not before:
                self.lines.say(f"best {_scores(best)}: {best_in_words(best)}")

    def show(self, state: SweepState) -> None:
        """Go on from a state that was folded elsewhere."""
        with self._lock:
            self.state = state

    def __enter__(self) -> Self:
        self.lines.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.lines.__exit__(kind, error, trace)

    def _before(self, event: Shown) -> str | None:
        """The line of an event that says what changes by it; None if it is not worth one."""
        match event:
            case SweepShown():
                about = pairs(
                    study=event.study,
                    trials=event.trials,
                    done=event.done,
                    cells=event.cells_per_trial,
                    epochs=event.epochs,
                    slots=event.slots or None,
                    records=event.storage or None,
                    tracking=event.tracking or None,
                )
                return f"run {about}"
            case SlotShown(state="restarting" | "stopped" | "silent"):
                return f"slot {pairs(slot=event.slot, state=event.state)}: {event.what}".rstrip(": ")
            case WorkShown(doing=doing) if doing.stage in TOLD_STAGES and self._is_new_stage(event):
                return f"slot {pairs(slot=event.slot, state=doing.stage)}: {STAGES[doing.stage]}"
            case EpochShown():
                epochs = self.state.epochs_of(event.trial)
                if not self._is_worth_a_line(event, epochs):
                    return None
                epoch = f"{event.epoch}/{epochs}" if epochs else event.epoch
                return f"epoch {pairs(trial=event.trial, epoch=epoch, accuracy=_percent(event.mean))}"
            case CellFailureShown():
                about = pairs(trial=event.trial, cell=event.key[:8], failure=event.failure)
                return f"cell {about}: {event.error}"
            case BudgetShown():
                return f"budget {pairs(budget=event.budget, running=event.running)}"
            case NoteShown():
                return f"note: {event.text}"
            case PhaseShown():
                return f"phase {pairs(phase=event.name)}: {PHASES.get(event.name, event.name)}"
        return None

    def _is_worth_a_line(self, event: EpochShown, epochs: int) -> bool:
        """Whether an epoch has an accuracy, is the last, or comes a while after the one that was said."""
        now = self._clock()
        said = self._epoch_said.get(event.trial)
        if event.mean is None and event.epoch != epochs and said is not None and now - said < EPOCHS_S:
            return False
        self._epoch_said[event.trial] = now
        return True

    def _is_new_stage(self, event: WorkShown) -> bool:
        known = self.state.slots.get(event.slot)
        return known is None or known.doing is None or known.doing.stage != event.doing.stage

    def _trial(self, event: TrialShown) -> str | None:
        if event.state == "running":
            if event.parameters is None or event.number in self._announced:
                return None  # queued, or said before
            self._announced.add(event.number)
            about = pairs(trial=event.number, state="running", parameters=event.parameters)
            return f"trial {about}: {configuration(event.values)}"
        self._announced.discard(event.number)
        self._epoch_said.pop(event.number, None)
        about = f"{pairs(trial=event.number, state=event.state)} {_score(event)}".rstrip()
        about += f" {pairs(ended=f'{self.state.ended}/{self.state.target}')}"
        words = event.error.splitlines()[0] if event.error else ""
        if event.violated:
            words = f"it violates {', '.join(event.violated)}"
        if left := left_in_words(self.state.left):
            words += f"{'; ' if words else ''}{left} left"
        return f"trial {about}: {words}".rstrip(": ")

    def _still(self) -> str:
        """What goes on, while nothing happens."""
        with self._lock:
            state = self.state
            about = pairs(
                phase=state.phase,
                seconds=round(state.age(state.phase_since)),
                elapsed=round(state.elapsed),
                ended=f"{state.ended}/{state.target}" if state.target else None,
            )
            busy = [slot for slot in state.slots.values() if slot.state != "stopped"]
            parts = [self._slot(slot) for slot in busy[:SHOWN_SLOTS]]
            if len(busy) > SHOWN_SLOTS:
                parts.append(f"and {len(busy) - SHOWN_SLOTS} more slots")
            return f"still {about}: {'; '.join(parts) or phase_in_words(state)}"

    def _slot(self, slot: SlotState) -> str:
        since = duration(round(self.state.age(slot.since)))
        return f"slot {slot.name} {work_in_words(self.state, slot)} for {since}"


def _scores(trial: TrialProgress) -> str:
    return f"{pairs(trial=trial.number)} {_score(trial)}"


def _score(trial: TrialProgress | TrialShown) -> str:
    return pairs(
        accuracy=_percent(trial.mean),
        low=_percent(trial.low),
        high=_percent(trial.high),
        seeds=trial.n or None,
    )


def _percent(fraction: float | None) -> str | None:
    shown = accuracy(fraction)
    return None if shown == NONE else shown
