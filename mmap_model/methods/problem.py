"""What a model is built for. Does not import torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mmap_model.configuration import Partition


@dataclass(frozen=True, kw_only=True)
class Problem:
    """T tasks in words, and the R replicates that are trained on them as one batch.

    Attributes:
        classes: class names of each task, [T][C]; lists may differ.
        template: class prompt of all tasks; ``{}`` is the class name.
        partitions: groups of tasks, by replicate; None where the method has none.
        train_seeds: by replicate.
    """

    classes: Sequence[Sequence[str]]
    template: str
    partitions: Sequence[Partition | None]
    train_seeds: Sequence[int]

    def __post_init__(self) -> None:
        assert len(self.partitions) == len(self.train_seeds), "a partition and a seed for each replicate"

    @property
    def tasks(self) -> int:
        """T."""
        return len(self.classes)

    @property
    def replicates(self) -> int:
        """R."""
        return len(self.train_seeds)

    @property
    def groups(self) -> list[Partition]:
        """The partitions of a grouped method, which has one for every replicate."""
        found = [partition for partition in self.partitions if partition is not None]
        assert len(found) == self.replicates, "a grouped method needs a resolved partition"
        assert all(sorted(t for g in groups for t in g) == list(range(self.tasks)) for groups in found)
        return found

    def streams(self, method: str) -> list[str]:
        """By replicate, the beginning of the names of a method's random streams."""
        return [f"{seed}/{method}" for seed in self.train_seeds]

    def worded(self, template: str) -> Problem:
        """The same with another template."""
        return replace(self, template=template)
