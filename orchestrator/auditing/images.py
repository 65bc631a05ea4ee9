"""Are the images of a cell those of its draw, and were test images kept out of training and validation?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.auditing.cell import AuditedCell
from orchestrator.auditing.finding import Finding
from orchestrator.ledger.cell_records import RECORD
from orchestrator.ledger.cells import TEST


def audit_images(cell: AuditedCell, draw: Mapping[str, Any] | None) -> Iterator[Finding]:
    """What is wrong with the images that a cell was validated and tested on.

    Args:
        cell: any.
        draw: of its split and seed, as the study keeps it; None where it keeps none.
    """
    yield from _apart(cell, cell.images, "validation")
    if draw is None or cell.record is None or draw.get("dataset") != cell.record["cell"]["dataset"]:
        return
    for task, parts in draw["tasks"].items():
        if task in cell.images and cell.images[task] != parts["validation"]:
            yield Finding(
                record=f"{cell.path}/{RECORD}",
                problem=f"its validation images of {task} are not those of the draw"
                + _tested(cell.images[task], parts),
            )
        if task in cell.test_images and _hash(cell.test_images[task]) != parts["test"]["sha256"]:
            yield Finding(
                record=f"{cell.path}/{TEST}", problem=f"its test images of {task} are not those of the draw"
            )
    for part in ("train", "validation"):
        yield from _apart(cell, {task: parts[part] for task, parts in draw["tasks"].items()}, part)


def draw_name(cell: AuditedCell) -> str | None:
    """The name under which a study keeps the draw of a cell."""
    if cell.cell is None:
        return None
    return f"{cell.cell.split.label.removesuffix('%')}_seed{cell.cell.seeds.draw}"


def _apart(cell: AuditedCell, images: Mapping[str, list[str]], part: str) -> Iterator[Finding]:
    """Test images of a cell that are also in another part of its draw."""
    for task, tested in cell.test_images.items():
        if both := set(tested) & set(images.get(task, ())):
            yield Finding(
                record=f"{cell.path}/{TEST}",
                problem=f"{len(both)} test images of {task} are also {part} images, such as {min(both)}",
            )


def _tested(images: list[str], parts: Mapping[str, Any]) -> str:
    return ": they are the test images" if _hash(images) == parts["test"]["sha256"] else ""


def _hash(images: list[str]) -> str:
    return hashlib.sha256("\n".join(images).encode()).hexdigest()
