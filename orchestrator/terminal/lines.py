"""A sweep as plain lines, one per event that matters: for logs, pipes and CI."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from rich.console import Console

from orchestrator.tables.words import NBSP, accuracy, configuration, duration, integer
from orchestrator.terminal.live import PHASES
from orchestrator.terminal.state import ENDED, SweepState
from orchestrator.work.shown import (
    CellFailureShown,
    EpochShown,
    NoteShown,
    PhaseShown,
    Shown,
    SlotShown,
    SweepShown,
    TrialShown,
)


class LineDisplay:
    """Prints ``[elapsed] what happened``; no escape codes, nothing redrawn."""

    def __init__(self, console: Console) -> None:
        self.state = SweepState()
        self._console = console
        self._lock = threading.Lock()
        self._announced: set[int] = set()

    def apply(self, event: Shown) -> None:
        """Take an event in, and say it if it matters."""
        with self._lock:
            text = self._text(event)
            self.state.apply(event)
            if isinstance(event, TrialShown):
                text = self._trial(event)
            if text is None:
                return
            line = f"[{duration(int(self.state.elapsed)):>11}] {text}".replace(NBSP, " ")
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def _text(self, event: Shown) -> str | None:
        match event:
            case SweepShown():
                done = f", {event.done} done before" if event.done else ""
                return (
                    f"study {event.study}: {event.trials} trials of {event.cells_per_trial} cells"
                    f"{done}; records in {event.storage}"
                )
            case SlotShown(state="restarting" | "stopped"):
                return f"slot {event.slot} {event.state}: {event.what}".rstrip(": ")
            case EpochShown():
                of = f" of {self.state.epochs}" if self.state.epochs else ""
                reached = "" if event.mean is None else f", {accuracy(event.mean)} %"
                return f"trial {event.trial}: epoch {event.epoch}{of}{reached}"
            case CellFailureShown():
                return f"trial {event.trial}: cell {event.key[:8]} failed: {event.error}"
            case NoteShown():
                return event.text
            case PhaseShown():
                return PHASES.get(event.name, event.name)
        return None

    def _trial(self, event: TrialShown) -> str | None:
        trial = self.state.trial(event.number)
        if trial.state == "running":
            if trial.parameters is None or trial.number in self._announced:
                return None  # queued, or said before
            self._announced.add(trial.number)
            shown = configuration(trial.values)
            return f"trial {trial.number} starts: {shown}, {integer(trial.parameters)} parameters"
        if trial.state in ENDED:
            result = f" at {accuracy(trial.mean)} %" if trial.mean is not None else ""
            reason = f": {trial.error.splitlines()[0]}" if trial.error else ""
            progress = f"{self.state.count(*ENDED)} of {self.state.target}"
            left = self.state.remaining
            eta = f", about {duration(left)} left" if left and left >= 1 else ""
            return f"trial {trial.number} {trial.state}{result}{reason} ({progress}{eta})"
        return None
