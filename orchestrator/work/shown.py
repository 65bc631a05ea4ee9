"""What a person is shown of a sweep, a comparison, a confirmation: told by its driver, drawn by a terminal.

Light to import: whoever follows a run needs neither Ray nor torch for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from orchestrator.work.doing import Doing

SlotStage = Literal["starting", "idle", "busy", "silent", "restarting", "stopped", "gone"]
TrialStage = Literal["running", "complete", "pruned", "failed", "cancelled"]
Phase = Literal[
    "checking",
    "ray",
    "slots",
    "search",
    "race",
    "columns",
    "baselines",
    "finalists",
    "stopping",
    "tracking",
    "results",
    "done",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepShown:
    """A run begins.

    Attributes:
        study: its name.
        trials: to be trained, those included that are ``done`` before it.
        epochs: of each trial, unless it has a recipe of its own.
        cells_per_trial: at most; trials that share cells train fewer.
        slots: that will be opened; 0 where the nodes of a cluster decide.
        done: trials finished by earlier runs.
        storage: where the records are, without credentials.
        tracking: URI of the tracking server, without credentials.
        best: the best complete trial of earlier runs.
    """

    study: str
    trials: int
    epochs: int = 0
    cells_per_trial: int = 0
    slots: int = 0
    done: int = 0
    storage: str = ""
    tracking: str = ""
    best: TrialShown | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SlotsShown:
    """So many slots, named by their numbers, are starting."""

    count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SlotShown:
    """How a slot stands.

    Attributes:
        slot: its name.
        state: ``busy`` with ``trial``, or with ``what``; ``silent``: it has not responded for a while;
            ``stopped``: for good; ``gone``: with its node.
        trial: number of the trial that it works on.
        what: other work (``probe``, ``baseline``, ``confirm``), or why it is not at work.
    """

    slot: str
    state: SlotStage
    trial: int | None = None
    what: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkShown:
    """What the worker of a slot does, told every few seconds as long as it changes."""

    slot: str
    doing: Doing


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialShown:
    """How a trial, or a row of a comparison, stands: all that is known of it.

    Attributes:
        number: of the trial.
        state: where it stands; one that is to be taken up again has ``failed`` for now.
        values: of the parameters searched, by name.
        parameters: trained; None while its partition is unknown.
        mean: of its last epoch over cells; None before any, or where it is not a number.
        low, high: the 95 % t-interval of that over seeds; None with one seed or where it is not known.
        n: seeds behind the mean; 0 where it is not known.
        error: why it failed.
        violated: constraints of the study that it does not meet: it is never the best.
        epochs: of its own recipe; None where it is not known.
    """

    number: int
    state: TrialStage
    values: Mapping[str, Any]
    parameters: int | None = None
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    error: str | None = None
    violated: tuple[str, ...] = ()
    epochs: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochShown:
    """All cells of a trial have reached an epoch (1-based); ``mean`` is the objective over them."""

    trial: int
    epoch: int
    mean: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class CellFailureShown:
    """A cell of a trial failed.

    Attributes:
        trial: its number.
        key: of the cell.
        error: in words.
        failure: its kind, see ``orchestrator.work.failures``.
    """

    trial: int
    key: str
    error: str
    failure: str


@dataclass(frozen=True, kw_only=True, slots=True)
class NoteShown:
    """Something the user should know."""

    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class BudgetShown:
    """A budget is spent: no further trial starts.

    Attributes:
        budget: its key and limit, ``search.hours = 2``.
        running: trials in work, which finish.
    """

    budget: str
    running: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PhaseShown:
    """What begins."""

    name: Phase


Shown = (
    SweepShown
    | SlotsShown
    | SlotShown
    | WorkShown
    | TrialShown
    | EpochShown
    | CellFailureShown
    | NoteShown
    | BudgetShown
    | PhaseShown
)

Progress = Callable[[Shown], None]
"""Takes what is shown; called from several threads of a driver."""
