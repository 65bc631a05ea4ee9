"""The labelled images of a batch of cells, as a method sees them before training.

Legend: R replicates, T tasks, V views, n labelled images of a task, E embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor


class Support(Protocol):
    """Labels, and what the frozen image tower makes of the images."""

    def labels(self) -> Sequence[Sequence[Tensor]]:
        """int64 [n], by replicate and task, on the device."""
        ...

    def embeddings(self, views: int) -> Sequence[Sequence[Tensor]]:
        """``image_embeddings`` [V, n, E] of augmented views, by replicate and task, in the labels' order.

        A recipe without augmentation has one view, that of the evaluation. Views with the same number are the
        same pixels, whoever asks.
        """
        ...
