"""What the records hold of an item's cells, as far as this study may use it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.execution.company import outpaced
from orchestrator.ledger import InFlight, Ledger
from orchestrator.work.failures import CellFailed
from orchestrator.work.inputs import pixels_apart, pixels_of
from orchestrator.work.item import WorkItem

Record = dict[str, Any]


class RecordedCells:
    """Reads cells back for one item.

    Args:
        ledger: holds them.
        item: asks for them.

    Attributes:
        pixels: of the images of the item's study, by task; empty where they are unknown.
    """

    def __init__(self, ledger: Ledger, item: WorkItem) -> None:
        self._ledger, self._item = ledger, item
        self.pixels = pixels_of(item.inputs)

    def finished(self, key: str) -> Record | None:
        """The whole record of a finished cell.

        Raises:
            CellFailed: another study trained it on images of the same names and sizes that are others.
        """
        record = self._ledger.get(key, verify=True)
        if record is not None and (tasks := pixels_apart(record.get("pixels", {}), self.pixels)):
            raise CellFailed(
                f"study {record.get('study')!r} trained cell {key[:12]} in this storage on images of "
                f"{', '.join(tasks)} that have the same names and sizes as these and are others; give this "
                "study a storage of its own (storage=…), or the images other names",
                "data",
            )
        return record

    def failure(self, key: str) -> Record | None:
        """How a cell failed before; None if it did not.

        What an earlier driver of this study recorded of workers that were killed does not count: it may have
        been recorded late, of a trial that has begun anew since.
        """
        failure = self._ledger.failure(key)
        if failure is None or failure.get("by") != "driver" or failure.get("study") != self._item.study:
            return failure
        return failure if failure.get("fence") == self._item.fence else None

    def check_company(self, finished: Mapping[str, Record]) -> None:
        """Take over no cell that an earlier version trained for as many steps as another seed asked for."""
        beside = {
            key for record in finished.values() for key in record.get("fused_with", ())
        } - finished.keys()
        records = {**finished, **(self._ledger.get_many(beside) if beside else {})}
        for key, record in finished.items():
            if (reason := outpaced(record, records)) is not None:
                raise CellFailed(
                    f"cell {key[:12]} in this storage cannot be used: {reason}; give this study a storage of "
                    "its own (storage=…)",
                    "data",
                )

    def usable(self, state: InFlight) -> bool:
        """Whether a saved state is not of other images of the same names and sizes."""
        return not pixels_apart(state.about.get("pixels", {}), self.pixels)
