"""What a model is built for. Does not import torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mmap_model.configuration import Partition


@dataclass(frozen=True, kw_only=True)
class ProblemSize:
    """What the number of trained parameters depends on, beside settings and backbone.

    Attributes:
        tasks, groups: T and G.
        classes: class names of each task, [T][C]; None where nobody knows.
        images: labelled images of each task, [T]; None where nobody knows.
        partition: the groups, where they are known; their number counts otherwise.
    """

    tasks: int
    groups: int = 0
    classes: Sequence[Sequence[str]] | None = None
    images: Sequence[int] | None = None
    partition: Partition | None = None

    @classmethod
    def equal(
        cls, *, tasks: int, groups: int = 0, classes: int | None = None, shots: int | None = None
    ) -> ProblemSize:
        """Tasks with the same number of classes, of the same names, each with as many labelled images."""
        names = None if classes is None else [str(number) for number in range(classes)]
        return cls(
            tasks=tasks,
            groups=groups,
            classes=None if names is None else [names] * tasks,
            images=None if classes is None or shots is None else [classes * shots] * tasks,
        )


@dataclass(frozen=True, kw_only=True)
class Problem:
    """T tasks in words, and the R replicates that are trained on them as one batch.

    Attributes:
        classes: class names of each task, [T][C]; lists may differ.
        template: class prompt of all tasks; ``{}`` is the class name.
        partitions: groups of tasks, by replicate; None where the method has none.
        train_seeds: by replicate.
        templates: texts whose features are averaged, by task, in place of ``template``; None: that alone.
        images: labelled images of each task, [T], the same in all replicates; None where nobody knows.
            Methods whose tensors have a row per labelled image need it.
    """

    classes: Sequence[Sequence[str]]
    template: str
    partitions: Sequence[Partition | None]
    train_seeds: Sequence[int]
    templates: Sequence[Sequence[str]] | None = None
    images: Sequence[int] | None = None

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
