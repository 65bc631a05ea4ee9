"""Cells that were recorded in the wrong company: trained beside others for more steps than alone.

Earlier versions trained all seeds of a split as one batch, for as many steps as the longest list of images
asked for. Of the other cells the numbers are not those that they would have alone. Their keys cannot say so,
because a cell does not know the lists of other seeds; the records can, since each names those it was trained
with and how many images it had.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Record = Mapping[str, Any]


def outpaced(record: Record, records: Mapping[str, Record]) -> str | None:
    """Say that a finished cell was trained for more steps than its own images ask for; None if it was not.

    Args:
        record: of the cell.
        records: of cells trained with it, by key; those that are not there are taken for as long as it is.
    """
    beside = [records[key] for key in record.get("fused_with", ()) if key in records]
    if not beside or record["cell"]["kind"] == "untrained" or not record.get("parameters"):
        return None
    own, most = _largest(record), max(map(_largest, [record, *beside]))
    if not own:
        return None
    recipe = record["cell"]["configuration"]["recipe"]
    if recipe.keys() & {"steps", "steps_per_shot", "last_batch"}:  # that version did not have them
        return None
    batch = recipe["batch_size"]
    alone, taken = _length(own, batch), _length(most, batch)
    if alone == taken:
        return None
    (steps, images), (steps_taken, images_taken) = alone, taken
    return (
        f"its lists give {steps} × {images} images of a task an epoch (steps × images of a step), and an "
        f"earlier version of this software trained it on {steps_taken} × {images_taken}, beside a seed with "
        "longer lists"
    )


def _length(images: int, batch: int) -> tuple[int, int]:
    """Steps of an epoch over so many images, and images of a step: ``EpochLength``, without torch."""
    taken = min(batch, images)
    return images // taken, taken


def _largest(record: Record) -> int:
    """Training images of the largest task; 0 where a record does not say."""
    labels = record.get("metrics", {}).get("labels") or {}
    return max((own["train"] for own in labels.values()), default=0)
