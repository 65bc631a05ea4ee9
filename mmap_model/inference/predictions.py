"""What a classifier says of images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What is said of one image.

    Attributes:
        name: path of the image, or ``image N``.
        task: whose classes were chosen from.
        labels: class names, the most probable first.
        probabilities: of ``labels``; over all classes of the task they sum to 1.
        error: why there is nothing to say (``labels`` is empty then), or None.
    """

    name: str
    task: str
    labels: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    error: str | None = None

    @property
    def label(self) -> str | None:
        """The most probable class; None for an image with an error."""
        return self.labels[0] if self.labels else None


class Predictions:
    """Predictions in the order of the images, computed while they are iterated over; nothing is kept.

    Iterating again classifies again, unless the images came from an iterator, which is then empty.
    """

    def __init__(self, start: Callable[[], Iterator[Prediction]]) -> None:
        self._start = start

    def __iter__(self) -> Iterator[Prediction]:
        return self._start()
