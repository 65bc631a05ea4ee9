"""What workers and the work queue report: of items, of their cells, of slots.

Events travel between processes, so this module imports next to nothing. Those of the executor reach the
driver in the order ``CellsKnown``, epochs and cells as they come, ``Done``; the pool adds who works on what.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from orchestrator.work.doing import Doing
from orchestrator.work.failures import Failure

CellStatus = Literal["new", "resumed", "finished", "failed"]

EndState = Literal["complete", "cancelled", "failed", "lost"]
"""How an item ended; ``lost``: its workers kept dying, or the storage is away."""

CellReport = Mapping[str, Any]
"""What a cell measured in an epoch, as its history records it: ``epoch``, ``at``, ``accuracy``, ``tasks`` and
``seconds`` by name, and whatever else its method reports."""

Seconds = Mapping[str, float]
"""Seconds of work by what they went into; ``total`` is all of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CellState:
    """A cell, as it stands when work on its item begins.

    Attributes:
        key: in the ledger.
        split, seed: labels of its split (``6-shot``) and its seeds (``1``, or ``1/2`` where they differ).
        partition: task indices by group; None for methods without groups.
        parameters: trained ones, exactly.
        grouping: how the partition was found, as recorded; None if it was given.
        status: ``resumed``: it goes on from a saved epoch.
        epoch: the last one behind it; 0 for a new one.
        origin: study, trial and invocation that finished it, by these names.
        dataset: manifest of the data.
        backbone: fingerprint of the weights.
    """

    key: str
    split: str
    seed: str
    partition: Sequence[Sequence[int]] | None = None
    parameters: int
    grouping: Mapping[str, Any] | None = None
    status: CellStatus = "new"
    epoch: int = 0
    origin: Mapping[str, Any] | None = None
    dataset: str = ""
    backbone: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For records; nothing is copied."""
        return {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemEvent:
    """Something about one item.

    Attributes:
        item_id: its id. Of an item that is worked on in parts the whole's, once the pool tells it on.
    """

    item_id: str

    @property
    def held(self) -> str:
        """Id of what a slot holds: the item, or the part of it."""
        return self.item_id


# What a worker tells


@dataclass(frozen=True, kw_only=True, slots=True)
class CellsKnown(ItemEvent):
    """The cells of the item, splits first. Told again by whoever takes the item up after another."""

    cells: Sequence[CellState]


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbesKnown(ItemEvent):
    """The cells that measure what the item's grouping needs to know."""

    cells: Sequence[CellState]


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochReached(ItemEvent):
    """All cells have reached an epoch. Epochs of finished and resumed cells are told again.

    Attributes:
        epoch: 1-based; 0 for cells measured before their first step.
        mean: the objective; None where a value is missing.
        values: validation accuracy per cell in 0 … 1, in the order of ``CellsKnown``.
        reports: by cell key.
    """

    epoch: int
    mean: float | None
    values: Sequence[float | None]
    reports: Mapping[str, CellReport]


@dataclass(frozen=True, kw_only=True, slots=True)
class CellFinished(ItemEvent):
    """A cell was trained to its end by this item, and is in the ledger.

    Attributes:
        key: of the cell.
        at: time of its last epoch, ISO in UTC.
        metrics: as recorded.
        parameters: trained ones.
        seconds: by what they went into.
    """

    key: str
    at: str
    metrics: Mapping[str, Any]
    parameters: int
    seconds: Seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeFinished(ItemEvent):
    """A cell of ``ProbesKnown`` was trained to its end by this item."""

    key: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CellFailure(ItemEvent):
    """A cell failed, now or before.

    Attributes:
        key: of the cell.
        error: in words.
        failure: its kind.
    """

    key: str
    error: str
    failure: Failure


@dataclass(frozen=True, kw_only=True, slots=True)
class CellScored(ItemEvent):
    """A cell has a score on the test images; ``metrics`` as recorded."""

    key: str
    metrics: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting(ItemEvent):
    """The storage does not answer; ``text`` says so to the user."""

    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Note(ItemEvent):
    """Something that the user should know."""

    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Done(ItemEvent):
    """The item's last event.

    Attributes:
        state: how it ended.
        error: why, in words, unless it is complete.
        failure: kind of the first cell that failed; ``storage`` if that is away; None where nothing failed.
        seconds: of work.
        killed: its workers were killed with it, so nobody has recorded what became of its cells.
    """

    state: EndState
    error: str | None = None
    failure: Failure | Literal["storage"] | None = None
    seconds: Seconds = field(default_factory=dict)
    killed: bool = False


# What the pool tells of items


@dataclass(frozen=True, kw_only=True, slots=True)
class HoldEvent(ItemEvent):
    """A slot begins or ends to hold an item; ``part`` is the part of it that it holds, if it has parts."""

    part: str | None = None

    @property
    def held(self) -> str:
        return self.part or self.item_id


@dataclass(frozen=True, kw_only=True, slots=True)
class Leased(HoldEvent):
    """A slot has taken the item; ``deaths`` workers died while they worked on it."""

    slot: str
    deaths: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Requeued(HoldEvent):
    """Its worker is gone, or gave it back: it waits for another.

    Attributes:
        deaths: workers that died while they worked on it.
        seconds: of work, where the worker could tell.
    """

    deaths: int = 0
    seconds: Seconds = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Interrupted(HoldEvent):
    """All work ends, and this item was not done."""

    seconds: Seconds = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class PartDone(HoldEvent):
    """A part ended; ``Done`` of the whole follows the last of them."""

    state: EndState


@dataclass(frozen=True, kw_only=True, slots=True)
class StageDone(ItemEvent):
    """The seeds of the item are trained, and it waits: for further ones, or to be cancelled."""

    seconds: Seconds = field(default_factory=dict)


# What the pool tells of slots


@dataclass(frozen=True, kw_only=True, slots=True)
class SlotEvent:
    """Something about a slot, by its name."""

    slot: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SlotUp(SlotEvent):
    """Its worker runs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SlotDown(SlotEvent):
    """Its worker ended and another may come; ``error`` is empty if it ended in order."""

    error: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class SlotStopped(SlotEvent):
    """It takes no more work, because of an ``error``."""

    error: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SlotGone(SlotEvent):
    """Its node went, or is about to."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SlotPlaced(SlotEvent):
    """Ray keeps room for its worker in a placement group, named in hexadecimal."""

    placement_group: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SlotMeasured(SlotEvent):
    """Bytes of its GPU that its worker had at most (``peak``) and that there are (``total``)."""

    peak: int
    total: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SlotDoing(SlotEvent):
    """What its worker does. Of several that were not read yet the latest alone is kept."""

    doing: Doing


@dataclass(frozen=True, kw_only=True, slots=True)
class Silence:
    """Somebody has not responded for a while, or responds again.

    Attributes:
        slot: None: the pool itself.
        over: it responds again.
        seconds: of silence, so far or in all.
        patience: seconds after which it counts as dead.
    """

    slot: str | None
    over: bool = False
    seconds: float
    patience: float


WorkEvent = (
    CellsKnown
    | ProbesKnown
    | EpochReached
    | CellFinished
    | ProbeFinished
    | CellFailure
    | CellScored
    | Waiting
    | Note
    | Done
)
"""What a worker tells of its item."""

SlotNews = SlotUp | SlotDown | SlotStopped | SlotGone | SlotPlaced | SlotMeasured | SlotDoing

Event = WorkEvent | Leased | Requeued | Interrupted | PartDone | StageDone | SlotNews | Silence
"""Whatever the pool tells the driver."""

Emit = Callable[[WorkEvent], None]

RELEASES = (Done, PartDone, StageDone, Interrupted, Requeued)
"""Events by which a slot is free of an item again."""


E = TypeVar("E", bound=Event)


def with_error(event: E, change: Callable[[str], str]) -> E:
    """The event with its ``error`` changed, if it has one."""
    if isinstance(event, CellFailure | Done | SlotDown | SlotStopped) and event.error:
        return dataclasses.replace(event, error=change(event.error))
    return event
