"""Which cells may train as one batch: those whose epochs are equally long.

A batch takes one number of steps for all its replicates, and one number of images in each. Draws of the same
split give every seed as many images; fixed lists of a dataset may differ in length from seed to seed.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmap_model.cells import Cell
from mmap_model.data.dataset import Dataset
from mmap_model.errors import DatasetError
from mmap_model.methods import get_method
from mmap_model.training.batches import EpochLength
from mmap_model.training.replicate import draw_tasks

Length = EpochLength | tuple[EpochLength, tuple[int, ...]] | str | None
"""What replicates of one batch have in common; where a method has a row for each image, their numbers too."""


def fusable(cells: Sequence[Cell], dataset: Dataset) -> list[list[Cell]]:
    """Return cells that differ in seeds and partition only as groups that may each train as one batch.

    A cell whose lists are missing or damaged is alone, so that it fails alone. Groups and cells keep their
    order. Reads lists, but no images.
    """
    groups: dict[Length, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(_length(cell, dataset), []).append(cell)
    return list(groups.values())


def _length(cell: Cell, dataset: Dataset) -> Length:
    """Of its epochs; None as of all draws of its split; its key if it has none."""
    by_image = get_method(cell.configuration.method).fits
    try:
        if all(dataset.fixed(t.name, cell.split, cell.seeds.draw) is None for t in dataset.tasks):
            return None
        draws = draw_tasks(cell, dataset)
        length = EpochLength.of(draws, cell.configuration.recipe.for_split(cell.split))
        return (length, tuple(len(drawn.train) for drawn in draws)) if by_image else length
    except (DatasetError, OSError):
        return cell.key
