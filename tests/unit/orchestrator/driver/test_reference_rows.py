"""Reference rows: what was measured is recorded, told, and handed on."""

from __future__ import annotations

from typing import Any

from orchestrator.rows.reference import reference_points, reference_rows
from orchestrator.work.events import CellsKnown, CellState, Done, EpochReached
from orchestrator.work.shown import NoteShown


def measure(harness: Any, state: Any = "complete", **told: Any) -> list[tuple[str, float | None]]:
    """Measures zero-shot CLIP; what was handed on."""
    taken: list[tuple[str, float | None]] = []
    rows = reference_rows(
        harness.rows,
        harness.store,
        reference_points(harness.plan, ()),
        measured=lambda name, record: taken.append((name, record.accuracy)),
    )
    harness.rows.submit(rows)
    item = "baseline-zero_shot"
    cells = [
        CellState(key=f"k{n}", split="3-shot", seed=str(n), parameters=0, status="new") for n in range(3)
    ]
    harness.rows.take(CellsKnown(item_id=item, cells=cells))
    harness.rows.take(EpochReached(item_id=item, epoch=1, mean=0.485, values=[0.485] * 3, reports={}))
    harness.rows.take(Done(item_id=item, state=state, seconds={"total": 1.0}, **told))
    return taken


def test_a_measured_row_is_recorded_told_and_handed_on(start: Any) -> None:
    harness = start()
    assert measure(harness) == [("zero_shot", 0.485)]
    assert harness.store.load_baselines()["zero_shot"]["value"] == 0.485
    assert NoteShown(text="Zero-shot CLIP: 48.5 % on validation images, mean over 3 seeds") in harness.shown


def test_a_row_that_failed_is_told_and_not_handed_on(start: Any) -> None:
    harness = start()
    assert measure(harness, "failed", error="no numbers") == []
    assert harness.store.load_baselines() == {}
    assert NoteShown(text="Reference row zero_shot: no numbers") in harness.shown
