"""What happens to a row while it runs: the one place of tracking that reads events of work."""

from __future__ import annotations

from datetime import UTC, datetime

from orchestrator.redaction import redact
from orchestrator.tracking.narration import Narration, Operations
from orchestrator.tracking.row import TrackedRow
from orchestrator.work.events import CellFailure, CellFinished, CellsKnown, EpochReached, Event


def take(event: Event, row: TrackedRow, narration: Narration) -> Operations:
    """Add an event to its row and return what is to be told of it; nothing of events of no interest."""
    match event:
        case CellsKnown():
            if row.cells and len(event.cells) > len(row.cells):
                row.epochs.clear()  # those to come are of more seeds
            row.cells = [cell.to_dict() for cell in event.cells]
            return narration.cells(row)
        case EpochReached(epoch=epoch, reports=reports):
            row.add_epoch(epoch, reports)
            told = narration.epoch(row, epoch, reports)
            return told if row.stage else told + narration.means(row, epoch, reports)
        case CellFinished(key=key):
            row.set_status(key, "finished")
            row.finished[key] = {"seconds": event.seconds, "at": event.at}
            return narration.cell_finished(row, key)
        case CellFailure(key=key):
            row.set_status(key, "failed")
            row.failed[key] = {"error": redact(event.error), "at": now()}
            return narration.cell_failed(row, key)
    return []


def now() -> str:
    """UTC ISO time."""
    return datetime.now(UTC).isoformat(timespec="microseconds")
