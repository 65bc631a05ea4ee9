"""When slots were at work and when they were idle, from recorded times."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class SlotWork:
    """Something that a slot was at.

    Attributes:
        record: of what it was.
        label: what it was, for people.
        kind: trials of one kind have one colour: their state, or ``probe``, ``reference``, ``test``.
        slot: its name; empty where it was not recorded.
        start, end: seconds since any fixed moment.
    """

    record: str
    label: str
    kind: str
    slot: str = ""
    start: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start


@dataclass(frozen=True)
class Lane:
    """A slot, or what was packed into one lane where slots were not recorded; its work by start."""

    name: str
    work: tuple[SlotWork, ...]


@dataclass(frozen=True, kw_only=True)
class Occupancy:
    """All lanes.

    Attributes:
        lanes: by name.
        busy: seconds of work, summed over lanes.
        idle: seconds in which a lane had none between the first start and the last end of all, summed.
    """

    lanes: tuple[Lane, ...]
    busy: float
    idle: float

    @property
    def share(self) -> float:
        """Of the lanes' time that was work, 0 … 1."""
        return self.busy / (self.busy + self.idle) if self.busy + self.idle else 0.0


def occupancy(work: Iterable[SlotWork]) -> Occupancy:
    """Lanes of recorded slots, and of work without a slot packed into as few lanes as hold it."""
    ordered = sorted(work, key=lambda item: (item.start, item.end, item.record))
    named: dict[str, list[SlotWork]] = {}
    packed: list[list[SlotWork]] = []
    for item in ordered:
        if item.slot:
            named.setdefault(item.slot, []).append(item)
            continue
        lane = next((lane for lane in packed if lane[-1].end <= item.start), None)
        if lane is None:
            packed.append([item])
        else:
            lane.append(item)
    lanes = [Lane(f"slot {name}", tuple(items)) for name, items in sorted(named.items(), key=_by_number)]
    lanes += [Lane(f"lane {number}", tuple(items)) for number, items in enumerate(packed, start=1)]
    if not ordered:
        return Occupancy(lanes=(), busy=0.0, idle=0.0)
    span = max(item.end for item in ordered) - ordered[0].start
    busy = sum(_covered(lane.work) for lane in lanes)
    return Occupancy(lanes=tuple(lanes), busy=busy, idle=max(0.0, span * len(lanes) - busy))


def _by_number(item: tuple[str, list[SlotWork]]) -> tuple[int, str]:
    return (int(item[0]), "") if item[0].isdecimal() else (1 << 30, item[0])


def _covered(work: Sequence[SlotWork]) -> float:
    """Seconds that any of them takes; what overlaps counts once."""
    total, until = 0.0, float("-inf")
    for item in work:
        total += max(0.0, item.end - max(item.start, until))
        until = max(until, item.end)
    return total
