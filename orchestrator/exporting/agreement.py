"""Whether an artefact says of images what was recorded of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt

    from mmap_model.training.metrics import TaskPredictions

TOLERANCE = 1e-4
"""Of probabilities, in single precision."""

SHOWN = 3
"""Images that are named where an artefact differs."""


@dataclass(frozen=True, kw_only=True)
class ImageDifference:
    """An image of which an artefact says something else than the record."""

    task: str
    sample: str
    recorded: str
    found: str
    by: float


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """What came of scoring images again.

    Attributes:
        images: that were scored, by task.
        other_labels: images with another most probable class, near ties left out.
        near_ties: images with another most probable class, whose probability differs from that of the
            recorded one by no more than ``TOLERANCE``.
        largest: difference of any probability of the (five) recorded classes.
        beyond: images with a difference larger than ``TOLERANCE``.
        worst: the images that differ most.
    """

    images: Mapping[str, int] = field(default_factory=dict)
    other_labels: int = 0
    near_ties: int = 0
    largest: float = 0.0
    beyond: int = 0
    worst: tuple[ImageDifference, ...] = ()

    @property
    def holds(self) -> bool:
        """Every label agrees, near ties apart, and every probability to ``TOLERANCE``."""
        return not self.other_labels and self.largest <= TOLERANCE

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**asdict(self), "images": dict(self.images), "worst": [asdict(one) for one in self.worst]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Agreement:
        """What ``to_dict`` gave."""
        return cls(**{**data, "worst": tuple(ImageDifference(**one) for one in data["worst"])})

    def in_words(self) -> str:
        """One sentence; with the images that differ most where it does not hold."""
        whole = sum(self.images.values())
        said = f"{whole} images of {len(self.images)} tasks: "
        if self.holds:
            ties = f", {self.near_ties} near ties apart" if self.near_ties else ""
            return said + f"every label agrees{ties}; probabilities within {self.largest:.1e}"
        said += (
            f"{self.other_labels} labels differ; probabilities of {self.beyond} images differ by more than "
        )
        said += f"{TOLERANCE:.0e}, by {self.largest:.1e} at most"
        return said + "".join(
            f"\n  {one.task}/{one.sample}: {one.recorded} recorded, {one.found} found ({one.by:.1e})"
            for one in self.worst
        )


def compare(
    task: str,
    samples: Sequence[str],
    recorded: TaskPredictions,
    probabilities: npt.NDArray[Any],
    classes: Sequence[str],
) -> Agreement:
    """Recorded predictions of a task's images beside an artefact's.

    Args:
        task: its name.
        samples: names of the n images.
        recorded: of the same images.
        probabilities: by the artefact, [n, C].
        classes: names of the C classes.
    """
    import numpy as np

    # A number that is none agrees with nothing, and is no probability to be the highest.
    found = np.where(np.isfinite(probabilities), probabilities, -1.0).astype(np.float64)
    best, rows = found.argmax(1), np.arange(len(samples))
    first = recorded.classes[:, 0]
    gaps = np.abs(np.take_along_axis(found, recorded.classes, 1) - recorded.probabilities).max(1)
    other = best != first
    ties = other & (found[rows, best] - found[rows, first] <= TOLERANCE) & (gaps <= TOLERANCE)
    differ = (other & ~ties) | (gaps > TOLERANCE)
    worst = sorted(np.flatnonzero(differ), key=lambda i: -gaps[i])[:SHOWN]
    return Agreement(
        images={task: len(samples)},
        other_labels=int((other & ~ties).sum()),
        near_ties=int(ties.sum()),
        largest=float(gaps.max(initial=0.0)),
        beyond=int((gaps > TOLERANCE).sum()),
        worst=tuple(
            ImageDifference(
                task=task,
                sample=samples[int(i)],
                recorded=classes[int(first[i])],
                found=classes[int(best[i])],
                by=float(gaps[i]),
            )
            for i in worst
        ),
    )


def joined(parts: Sequence[Agreement]) -> Agreement:
    """Of all tasks together."""
    worst = sorted((one for part in parts for one in part.worst), key=lambda one: -one.by)
    return Agreement(
        images={task: number for part in parts for task, number in part.images.items()},
        other_labels=sum(part.other_labels for part in parts),
        near_ties=sum(part.near_ties for part in parts),
        largest=max((part.largest for part in parts), default=0.0),
        beyond=sum(part.beyond for part in parts),
        worst=tuple(worst[:SHOWN]),
    )
