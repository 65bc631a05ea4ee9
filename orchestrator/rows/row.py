"""One row on its way: its work, the record that its events are folded into, and what becomes of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mmap_model.cells import Point
from mmap_model.plain import content_key, to_plain
from orchestrator.ledger import TrialRecord
from orchestrator.work.events import CellsKnown, Done, EpochReached, Event, Interrupted, Requeued, StageDone
from orchestrator.work.item import WorkItem

End = Literal["complete", "pruned", "cancelled", "failed", "interrupted"]
"""What a row came to, as it is told. The record of an interrupted one stays ``running``: it goes on later."""

CELL = ("key", "split", "seed", "partition", "parameters")
"""What a row's record keeps of a cell."""


@dataclass(kw_only=True, eq=False)
class Row:
    """A configuration at some splits and seeds.

    Attributes:
        item: its work.
        record: what is known of it, folded from the events of its work.
        ends: what becomes of it.
        run: its name in tracking: a trial's number, or what else it is called; None: it has no run.
        values: what a person sees of it, by name; None: nothing.
        tags: of its run, besides those of every run.
        needs: ids of items that must complete before it starts, besides the probe of its grouping.
        parts: its cells as several items, where they are spread over slots.
        probe_parts: slots that its probe is spread over, at most.
        keep: tracking keeps what it tells of it: no other record will have it for ever.
        seeds: that its probe is measured at, where ``item`` has fewer of them for now.
    """

    item: WorkItem
    record: TrialRecord
    ends: Ends
    run: int | str | None = None
    values: Mapping[str, Any] | None = None
    tags: Mapping[str, Any] = field(default_factory=dict)
    needs: Sequence[str] = ()
    parts: Sequence[WorkItem] = ()
    probe_parts: int = 1
    keep: bool = False
    seeds: tuple[dict[str, Any], ...] | None = None

    @property
    def probe(self) -> WorkItem | None:
        """The work that must be done before: the probe of its grouping; None if it needs none.

        Equal probes of equal cells have equal ids, so that the pool does them once.
        """
        point = Point.from_dict(self.record.point)
        grouping = point.grouping
        if self.item.purpose == "confirm" or grouping is None or grouping.mode != "gradient":
            return None
        seeds = self.seeds or self.item.seeds
        shape = {
            "method": point.method,
            "settings": to_plain(point.settings),
            "recipe": to_plain(point.recipe),
        }
        identity = {
            "probe": to_plain(grouping.probe),
            "of": shape if grouping.probe.same else None,
            "splits": self.item.splits,
            "seeds": seeds,
        }
        named = f"probe-{content_key(identity)}"
        return self.item.with_(item_id=named, purpose="probe", trial=None, seeds=seeds, more=False)

    def fold(self, event: Event, backbone_parameters: int) -> bool:
        """Take an event of its work into the record; False if that changes nothing.

        Args:
            event: any but the last.
            backbone_parameters: those that ``share`` is of.
        """
        record = self.record
        match event:
            case CellsKnown():
                record.cells = [{name: getattr(cell, name) for name in CELL} for cell in event.cells]
                record.parameters = max((cell.parameters for cell in event.cells), default=None)
                if record.parameters is not None:
                    record.share = record.parameters / backbone_parameters
            case EpochReached():
                if record.epochs and event.epoch <= record.epochs[-1]["epoch"]:
                    return False  # told again after a resume
                record.epochs.append({name: getattr(event, name) for name in ("epoch", "mean", "values")})
            case Interrupted() | Requeued() | StageDone():  # work that was interrupted has taken time too
                record.device_seconds += event.seconds.get("total", 0.0)
            case _:
                return False
        return True


class Ends:
    """What becomes of the rows of one kind. Here: nothing is kept, and an end is what the work says it is."""

    def changed(self, row: Row) -> None:
        """The record of a row in work has changed."""

    def reached(self, row: Row) -> None:
        """All its cells have reached a further epoch, which is in the record."""

    def stage_over(self, row: Row) -> None:
        """The seeds of its item are trained; further ones may follow."""

    def settle(self, row: Row, done: Done) -> End:
        """Enter into the record what the row came to, from the last event of its work."""
        record = row.record
        if done.state == "complete":
            record.state, record.value = "complete", last_mean(record)
            return "complete"
        if done.state == "failed":
            record.state = "failed"
            return "failed"
        return "interrupted"  # lost, or taken from us: it stays to be taken up again

    def ended(self, row: Row, end: End, done: Done) -> None:
        """Keep the record, which is final now."""

    def over(self, row: Row) -> None:
        """Everyone was told of the end."""


def last_mean(record: TrialRecord) -> float | None:
    """The objective in the last epoch; None before any, or where it is not a number."""
    mean = record.epochs[-1]["mean"] if record.epochs else None
    return mean if mean is not None and math.isfinite(mean) else None


def epochs_of(record: TrialRecord) -> dict[int, float]:
    """The objective of a recorded row by epoch, NaN where it was not a number.

    Epochs after which not all of its cells were scored have none and are left out (``compute.evaluate``).
    """
    return {
        e["epoch"]: math.nan if e["mean"] is None else e["mean"]
        for e in record.epochs
        if e["mean"] is not None or None not in e.get("values", ())
    }
