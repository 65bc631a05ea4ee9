"""A sweep as it stands, folded from what its driver shows. Pure data: no terminal in it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from orchestrator.terminal.left import Left, Pace
from orchestrator.work.doing import Doing
from orchestrator.work.shown import (
    EpochShown,
    NoteShown,
    PhaseShown,
    Shown,
    SlotShown,
    SlotsShown,
    SweepShown,
    TrialShown,
    WorkShown,
)

ENDED = ("complete", "pruned", "failed", "cancelled")


@dataclass
class TrialProgress:
    """One configuration: where it stands and how well it does.

    Attributes:
        epochs: of its own recipe; None where it has that of the study.
        low, high, n: the interval of ``mean`` and the seeds behind it, see ``TrialShown``.
        started: when it got a slot, by the clock of the state; None before.
    """

    number: int
    state: str = "running"
    values: dict[str, Any] = field(default_factory=dict)
    parameters: int | None = None
    epoch: int = 0
    epochs: int | None = None
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    error: str | None = None
    started: float | None = None


@dataclass
class SlotState:
    """One resident worker: what it is doing, for which trial, and how far it is.

    Attributes:
        doing: as its worker told last; None before, and between two items of work.
        since: when state, trial or stage changed last, by the clock of the state.
    """

    name: str
    state: str = "starting"
    trial: int | None = None
    what: str = ""
    doing: Doing | None = None
    since: float = 0.0


class SweepState:
    """What a display shows. Of ended trials it keeps the best and otherwise counts.

    Args:
        clock: seconds, for elapsed times.

    Attributes:
        trials: the running ones, the best complete one, and the one that ended last.
        phase_since: when the phase began, by the clock.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.began = self.phase_since = clock()
        self.study = ""
        self.target = 0
        self.epochs = 0
        self.cells_per_trial = 0
        self.done_before = 0
        self.storage = ""
        self.tracking = ""
        self.phase = "starting"
        self.trials: dict[int, TrialProgress] = {}
        self.slots: dict[str, SlotState] = {}
        self.notes: list[str] = []
        self.counts: Counter[str] = Counter()
        self.pace = Pace()
        self._best: TrialProgress | None = None
        self._last_ended: TrialProgress | None = None

    def apply(self, event: Shown) -> None:
        """Take one event in."""
        match event:
            case SweepShown():
                self._on_sweep(event)
            case SlotsShown():
                self._open(event.count)
            case SlotShown():
                self._on_slot(event)
            case WorkShown():
                self._on_work(event)
            case TrialShown():
                self._on_trial(event)
            case EpochShown():
                self._on_epoch(event)
            case NoteShown():
                self.notes.append(event.text)
            case PhaseShown():
                self.phase, self.phase_since = event.name, self._clock()

    @property
    def now(self) -> float:
        """By the state's clock."""
        return self._clock()

    @property
    def elapsed(self) -> float:
        return self._clock() - self.began

    def age(self, since: float) -> float:
        """Seconds since a time by the state's clock."""
        return max(0.0, self._clock() - since)

    @property
    def left(self) -> Left | None:
        """Seconds to the end of the last trial, by those ended in this run; None before any."""
        now = self._clock()
        running = [trial.started for trial in self.trials.values() if trial.state == "running"]
        in_work = [now - started for started in running if started is not None]
        return self.pace.left(max(0, self.target - self.ended), in_work, now)

    @property
    def ended(self) -> int:
        """Trials that ended, in this run and before."""
        return self.done_before + self.count(*ENDED)

    @property
    def best(self) -> TrialProgress | None:
        """The complete trial with the highest mean, the earliest of equals."""
        return self._best

    @best.setter
    def best(self, trial: TrialProgress) -> None:
        self._best = trial

    def count(self, *states: str) -> int:
        """Trials in any of these states, those left out that ended before this run."""
        return sum(self.counts[state] for state in states)

    def trial(self, number: int) -> TrialProgress:
        if number not in self.trials:
            self.trials[number] = TrialProgress(number)
            self.counts["running"] += 1
        return self.trials[number]

    def epochs_of(self, number: int) -> int:
        """Epochs of a trial: of its own recipe, or the study's; 0 where neither is known."""
        known = self.trials.get(number)
        return self.epochs if known is None or known.epochs is None else known.epochs

    def _on_sweep(self, event: SweepShown) -> None:
        self.study, self.storage, self.tracking = event.study, event.storage, event.tracking
        self.target, self.done_before = event.trials, event.done
        self.epochs, self.cells_per_trial = event.epochs, event.cells_per_trial
        if event.best is not None:
            self._best = _state_of(event.best)
        self._open(event.slots)

    def _open(self, count: int) -> None:
        for number in range(count):
            self._slot(str(number))

    def _on_slot(self, event: SlotShown) -> None:
        if event.state == "gone":
            self.slots.pop(event.slot, None)
            return
        slot = self._slot(event.slot)
        if (slot.state, slot.trial, slot.what) != (event.state, event.trial, event.what):
            slot.since, slot.doing = self._clock(), None
        slot.state, slot.trial, slot.what = event.state, event.trial, event.what
        if slot.trial is not None:
            self._start(self.trial(slot.trial))

    def _on_work(self, event: WorkShown) -> None:
        slot = self._slot(event.slot)
        if slot.doing is None or slot.doing.stage != event.doing.stage:
            slot.since = self._clock()
        slot.doing = event.doing

    def _on_trial(self, event: TrialShown) -> None:
        trial = self.trial(event.number)
        was_running = trial.state == "running"
        self.counts[trial.state] -= 1
        trial.state = event.state
        self.counts[trial.state] += 1
        trial.values = dict(event.values)
        trial.parameters, trial.mean, trial.error = event.parameters, event.mean, event.error
        trial.low, trial.high, trial.n = event.low, event.high, event.n
        trial.epochs = event.epochs
        if trial.state in ENDED:
            if was_running and trial.started is not None:
                self.pace.ended(self._clock() - trial.started)
            self._end(trial, may_be_best=not event.violated)

    def _end(self, trial: TrialProgress, *, may_be_best: bool) -> None:
        """Keep the best and the last of the ended trials, forget the others."""
        before = (self._best, self._last_ended)
        self._last_ended = trial
        if may_be_best and trial.state == "complete" and trial.mean is not None:
            best = self._best
            if best is None or best.mean is None or (trial.mean, -trial.number) > (best.mean, -best.number):
                self._best = trial
        for other in before:
            if other is not None and other not in (self._best, trial) and other.state in ENDED:
                self.trials.pop(other.number, None)

    def _on_epoch(self, event: EpochShown) -> None:
        trial = self.trial(event.trial)
        self._start(trial)
        trial.epoch = event.epoch
        trial.mean = trial.mean if event.mean is None else event.mean

    def _start(self, trial: TrialProgress) -> None:
        """Work on a trial begins: when it gets a slot, not when it is queued."""
        if trial.started is None:
            trial.started = self._clock()
            self.pace.started(trial.started)

    def _slot(self, name: str) -> SlotState:
        """A slot by its name: a number, or its node's with a number (``gpu-node-3:0``)."""
        return self.slots.setdefault(name, SlotState(name, since=self._clock()))


def _state_of(shown: TrialShown) -> TrialProgress:
    return TrialProgress(
        shown.number,
        state=shown.state,
        values=dict(shown.values),
        parameters=shown.parameters,
        mean=shown.mean,
        low=shown.low,
        high=shown.high,
        n=shown.n,
        error=shown.error,
        epochs=shown.epochs,
    )
