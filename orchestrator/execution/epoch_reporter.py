"""Epochs of a trial, told once all its cells have reached them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmap_model.cells import Cell
from orchestrator.execution.batch import Batch, History
from orchestrator.statistics.epochs import epoch_reached
from orchestrator.work.events import Emit


class EpochReporter:
    """Tells each epoch once, when all cells have reached it.

    Args:
        item_id: of the item.
        cells: of the item, in order.
        history: epochs behind each of them, by key.
        emit: takes the events.
    """

    def __init__(self, item_id: str, cells: Sequence[Cell], history: History, emit: Emit) -> None:
        self._item_id, self._cells, self._emit = item_id, cells, emit
        self._reports: dict[str, dict[int, dict[str, Any]]] = {}
        self._told = -1
        for key, reports in history.items():
            self._add(key, reports)

    def update(self, batch: Batch) -> None:
        for key in batch.keys:
            self._add(key, batch.history[key])

    def report(self) -> None:
        shared = set.intersection(*(set(self._reports[cell.key]) for cell in self._cells))
        for epoch in sorted(e for e in shared if e > self._told):
            self._told = epoch
            reports = {cell.key: self._reports[cell.key][epoch] for cell in self._cells}
            places = {cell.key: (cell.split.label, cell.seeds.label) for cell in self._cells}
            self._emit(epoch_reached(self._item_id, epoch, places, reports))

    def _add(self, key: str, reports: Sequence[dict[str, Any]]) -> None:
        self._reports.setdefault(key, {}).update({report["epoch"]: report for report in reports})
