"""The rows of a result: what is said of each image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

INDEX = "index"
"""Column with an image's place in the list; of results in the making, not of finished ones."""


@dataclass(frozen=True)
class Said:
    """What is said of one image.

    Attributes:
        task: whose classes were chosen from; None where nobody could say.
        confidence: of the task, where it was chosen by the image.
        labels: the most probable first; empty with an error.
        probabilities: of the labels.
        error: why there are none.
    """

    task: str | None
    confidence: float | None = None
    labels: Sequence[str] = ()
    probabilities: Sequence[float] = ()
    error: str | None = None


def schema(*, confidence: bool, index: bool = False) -> Any:
    """Columns of a result; ``task_confidence`` only where tasks are chosen by the images."""
    import pyarrow as pa

    return pa.schema(
        [
            *([pa.field(INDEX, pa.int64())] if index else ()),
            pa.field("image", pa.string()),
            pa.field("task", pa.string()),
            *([pa.field("task_confidence", pa.float32())] if confidence else ()),
            pa.field("label", pa.string()),
            pa.field("probability", pa.float32()),
            pa.field("top_labels", pa.list_(pa.string())),
            pa.field("top_probabilities", pa.list_(pa.float32())),
            pa.field("error", pa.string()),
        ]
    )


def table(indices: Sequence[int], names: Sequence[str], said: Sequence[Said], *, confidence: bool) -> Any:
    """A ``pyarrow.Table`` with the index."""
    import pyarrow as pa

    columns: dict[str, list[Any]] = {
        INDEX: list(indices),
        "image": list(names),
        "task": [one.task for one in said],
        "task_confidence": [one.confidence for one in said],
        "label": [one.labels[0] if one.labels else None for one in said],
        "probability": [one.probabilities[0] if one.labels else None for one in said],
        "top_labels": [list(one.labels) or None for one in said],
        "top_probabilities": [list(one.probabilities) or None for one in said],
        "error": [one.error for one in said],
    }
    wanted = schema(confidence=confidence, index=True)
    return pa.table({name: columns[name] for name in wanted.names}, schema=wanted)
