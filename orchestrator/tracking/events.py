"""What happens to a row while it runs: the one place that reads events of the workbench."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from orchestrator.redaction import redact
from orchestrator.tracking.narration import Narration, Operations
from orchestrator.tracking.row import Row


def take(event: Mapping[str, Any], row: Row, narration: Narration) -> Operations:
    """Add an event to its row and return what is to be told of it; nothing of events of no interest."""
    match event["kind"]:
        case "cells":
            row.cells = [dict(cell) for cell in event["cells"]]
            return narration.cells(row)
        case "epoch":
            row.add_epoch(event["epoch"], event["cells"])
            return narration.epoch(row, event["epoch"], event["cells"])
        case "cell_finished":
            key = event["key"]
            row.set_status(key, "finished")
            row.finished[key] = {"seconds": event.get("seconds"), "at": event.get("at") or now()}
            return narration.cell_finished(row, key)
        case "cell_failed":
            key = event["key"]
            row.set_status(key, "failed")
            row.failed[key] = {"error": redact(event["error"]), "at": now()}
            return narration.cell_failed(row, key)
    return []


def now() -> str:
    """UTC ISO time."""
    return datetime.now(UTC).isoformat(timespec="microseconds")
