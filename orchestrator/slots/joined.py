"""One item whose cells are trained as several: what its parts tell, told as the whole would have told it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.statistics.summary import objective
from orchestrator.work.item import Event

CELL_NEWS = ("cell_finished", "cell_failed", "test")
"""Events of single cells, which whoever reads expects after the item's ``cells``."""

PRECEDENCE = ("lost", "failed", "cancelled", "complete")
"""Of several ends the first in this order is that of the whole."""


class Joined:
    """Joins the events of parts.

    An epoch is told once every cell has reached it, with the values in the order of the whole and the mean
    over all of them. ``cells`` is told once all parts have begun, and again when one began again.

    Args:
        item_id: of the whole.
        parts: ids of the parts, in the order of the whole's cells.
    """

    def __init__(self, item_id: str, parts: Sequence[str]) -> None:
        self.item_id, self.parts = item_id, tuple(parts)
        self._cells: dict[str, list[dict[str, Any]]] = {}
        self._reports: dict[str, dict[int, dict[str, Any]]] = {}
        self._waiting: list[Event] = []
        self._told = -1
        self._ends: dict[str, Event] = {}

    def take(self, part: str, event: Event) -> list[Event]:
        """Events of the whole that follow from one of a part."""
        kind = event["kind"]
        if kind == "cells":
            self._cells[part] = [dict(cell) for cell in event["cells"]]
            return self._begin() if self._begun else []
        if kind == "epoch":
            for key, report in event["cells"].items():
                self._reports.setdefault(key, {})[event["epoch"]] = report
            return self._epochs()
        told = self._as_whole(event)
        if kind not in CELL_NEWS:
            return [told]
        self._note(event)
        if self._begun:
            return [told]
        self._waiting.append(told)
        return []

    def end(self, part: str, event: Event) -> list[Event]:
        """What follows from the ``done`` of a part; ends with the whole's own ``done`` if it was the last."""
        self._ends[part] = event
        if len(self._ends) < len(self.parts):
            return []
        by_state = {state: [e for e in self._ends.values() if e["state"] == state] for state in PRECEDENCE}
        first = next(ends[0] for state in PRECEDENCE if (ends := by_state[state]))
        seconds: dict[str, float] = {}
        for end in self._ends.values():
            for name, value in end["seconds"].items():
                seconds[name] = seconds.get(name, 0.0) + value
        before = self._begin() if self._waiting else []
        return [*before, {**self._as_whole(first), "seconds": seconds}]

    @property
    def _begun(self) -> bool:
        return len(self._cells) == len(self.parts)

    def _begin(self) -> list[Event]:
        cells = [cell for part in self.parts for cell in self._cells.get(part, [])]
        waiting, self._waiting = self._waiting, []
        begin = {"item_id": self.item_id, "kind": "cells", "cells": [dict(cell) for cell in cells]}
        return [begin, *waiting, *self._epochs()]

    def _epochs(self) -> list[Event]:
        if not self._begun:
            return []
        cells = [cell for part in self.parts for cell in self._cells[part]]
        reached = set.intersection(*(set(self._reports.get(cell["key"], {})) for cell in cells))
        told = []
        for epoch in sorted(number for number in reached if number > self._told):
            self._told = epoch
            reports = {cell["key"]: self._reports[cell["key"]][epoch] for cell in cells}
            values = {(cell["split"], cell["seed"]): reports[cell["key"]]["accuracy"] for cell in cells}
            joined = {"epoch": epoch, "values": list(values.values()), "mean": objective(values)}
            told.append({"item_id": self.item_id, "kind": "epoch", **joined, "cells": reports})
        for reports_of_cell in self._reports.values():
            for number in [n for n in reports_of_cell if n <= self._told]:
                del reports_of_cell[number]
        return told

    def _note(self, event: Event) -> None:
        status = {"cell_finished": "finished", "cell_failed": "failed"}.get(event["kind"])
        for cells in self._cells.values():
            for cell in cells:
                if status is not None and cell["key"] == event["key"]:
                    cell["status"] = status

    def _as_whole(self, event: Event) -> Event:
        return {**event, "item_id": self.item_id}
