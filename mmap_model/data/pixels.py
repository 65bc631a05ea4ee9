"""Decoded training images that a dataset keeps ready for random crops. No torch here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]


class TrainingPixels(Protocol):
    """Upright RGB images, numbered by *rows*; large ones may be kept smaller than they are."""

    def __len__(self) -> int: ...

    @property
    def bytes(self) -> int:
        """Of all pixels."""
        ...

    def rows(self, task: int, indices: Indices) -> Indices:
        """Rows of images of a task, by its number and their indices."""
        ...

    def extents(self, rows: Indices) -> Indices:
        """(height, width) of the images themselves, [n, 2]: what crops are drawn on."""
        ...

    def boxes(self, rows: Indices, boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Boxes [n, 4] (top, left, height, width) on the images themselves, on what is kept of them."""
        ...

    def images(self, rows: Indices) -> Iterator[npt.NDArray[np.uint8]]:
        """What is kept of images, uint8 [height, width, 3], read-only."""
        ...
