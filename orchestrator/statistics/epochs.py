"""Epochs that all cells of an item have reached: told by a worker, joined from parts, or recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.statistics.summary import objective
from orchestrator.work.events import CellReport, EpochReached


def epoch_reached(
    item_id: str, epoch: int, places: Mapping[str, tuple[str, str]], reports: Mapping[str, CellReport]
) -> EpochReached:
    """The event, with the objective over all cells.

    Args:
        item_id: of the item.
        epoch: 1-based; 0 for cells measured before their first step.
        places: split and seed of every cell by its key, in the order of the item.
        reports: of this epoch by the same keys.
    """
    values = {places[key]: report["accuracy"] for key, report in reports.items()}
    return EpochReached(
        item_id=item_id, epoch=epoch, mean=objective(values), values=list(values.values()), reports=reports
    )


def latest_scored(epochs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The last of the recorded epochs of a row after which validation images were scored; None before any."""
    return next((epoch for epoch in reversed(epochs) if epoch["mean"] is not None), None)
