"""What a probe needs of the model that it trains, whichever method's it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, runtime_checkable

from torch import Tensor

TowerName = Literal["text", "image"]


@runtime_checkable
class Probed(Protocol):
    """A model that all tasks share and that tells their gradients apart in one backward pass (paper, eq. 8).

    Between the trained parameters and the towers it has tensors of which every task uses a copy of its own.
    """

    def generated(self, tower: TowerName) -> Tensor:
        """Those tensors of a tower, as the latest ``class_features`` or ``image_features`` was given them."""
        ...

    def task_gram(self, by_set: Sequence[Tensor]) -> dict[str, Tensor]:
        """Inner products of the tasks' gradients, fp64 [R, T, T], by space; see ``grouping.affinity.SPACES``.

        Args:
            by_set: gradients of the summed losses with respect to the ``generated`` tensors of text and image
                tower. Afterwards ``.grad`` of each parameter is the gradient of the same sum.
        """
        ...
