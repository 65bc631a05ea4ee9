"""One item whose cells are trained as several: what its parts tell, told as the whole would have told it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orchestrator.statistics.epochs import epoch_reached
from orchestrator.work.events import (
    CellFailure,
    CellFinished,
    CellReport,
    CellScored,
    CellsKnown,
    CellState,
    CellStatus,
    Done,
    EndState,
    EpochReached,
    WorkEvent,
)

PRECEDENCE: tuple[EndState, ...] = ("lost", "failed", "cancelled", "complete")
"""Of several ends the first in this order is that of the whole."""


class Joined:
    """Joins the events of parts.

    An epoch is told once every cell has reached it, with the values in the order of the whole and the mean
    over all of them. Cells are told once all parts have begun, and again when one began again; what became of
    one is told after that.

    Args:
        item_id: of the whole.
        parts: ids of the parts, in the order of the whole's cells.
    """

    def __init__(self, item_id: str, parts: Sequence[str]) -> None:
        self.item_id, self.parts = item_id, tuple(parts)
        self._cells: dict[str, list[CellState]] = {}
        self._reports: dict[str, dict[int, CellReport]] = {}
        self._waiting: list[WorkEvent] = []
        self._told = -1
        self._ends: dict[str, Done] = {}

    def take(self, part: str, event: WorkEvent) -> list[WorkEvent]:
        """Events of the whole that follow from one of a part."""
        match event:
            case CellsKnown():
                self._cells[part] = list(event.cells)
                return self._begin() if self._begun else []
            case EpochReached():
                for key, report in event.reports.items():
                    self._reports.setdefault(key, {})[event.epoch] = report
                return self._epochs()
            case CellFinished():
                self._note(event.key, "finished")
            case CellFailure():
                self._note(event.key, "failed")
            case CellScored():
                pass
            case _:
                return [replace(event, item_id=self.item_id)]
        told = replace(event, item_id=self.item_id)
        if self._begun:
            return [told]
        self._waiting.append(told)
        return []

    def end(self, part: str, event: Done) -> list[WorkEvent]:
        """What follows from the end of a part; ends with the whole's own ``Done`` if it was the last."""
        self._ends[part] = event
        if len(self._ends) < len(self.parts):
            return []
        first = min(self._ends.values(), key=lambda end: PRECEDENCE.index(end.state))
        seconds: dict[str, float] = {}
        for end in self._ends.values():
            for name, value in end.seconds.items():
                seconds[name] = seconds.get(name, 0.0) + value
        before = self._begin() if self._waiting else []
        return [*before, replace(first, item_id=self.item_id, seconds=seconds)]

    @property
    def _begun(self) -> bool:
        return len(self._cells) == len(self.parts)

    def _begin(self) -> list[WorkEvent]:
        cells = [cell for part in self.parts for cell in self._cells.get(part, [])]
        waiting, self._waiting = self._waiting, []
        return [CellsKnown(item_id=self.item_id, cells=cells), *waiting, *self._epochs()]

    def _epochs(self) -> list[WorkEvent]:
        if not self._begun:
            return []
        cells = [cell for part in self.parts for cell in self._cells[part]]
        reached = set.intersection(*(set(self._reports.get(cell.key, {})) for cell in cells))
        told: list[WorkEvent] = []
        for epoch in sorted(number for number in reached if number > self._told):
            self._told = epoch
            reports = {cell.key: self._reports[cell.key][epoch] for cell in cells}
            places = {cell.key: (cell.split, cell.seed) for cell in cells}
            told.append(epoch_reached(self.item_id, epoch, places, reports))
        for reports_of_cell in self._reports.values():
            for number in [n for n in reports_of_cell if n <= self._told]:
                del reports_of_cell[number]
        return told

    def _note(self, key: str, status: CellStatus) -> None:
        """Cells that are told again have the state that they have by then."""
        for part, cells in self._cells.items():
            self._cells[part] = [replace(c, status=status) if c.key == key else c for c in cells]
