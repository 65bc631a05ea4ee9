"""Where the rows of classes lie that methods train, keyed by name.

Legend: R replicates, T tasks, C classes (the most of any task), U rows of a replicate, J rows that act on a
class (2 in the ``grouped`` regime, else 1), E embedding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmap_model.methods.base import GroupedRegime
from mmap_model.methods.problem import Problem

Key = tuple[str, str]
"""Whose row it is (``all``, ``group 0`` …, ``task 0`` …) and the name of its class."""


class RowIndex(nn.Module):
    """Where the rows of every class lie.

    Replicates may differ in their partitions, and so in their numbers of rows: U is the most of any.

    Attributes:
        keys: of the rows, by replicate.
        places: of the rows that act on each class, [R, T, C, J]; beyond a task's classes those of its last.
        rows: U.
    """

    places: Tensor

    def __init__(self, problem: Problem, regime: GroupedRegime, device: torch.device) -> None:
        super().__init__()
        partitions = problem.groups if regime == "grouped" else [None] * problem.replicates
        self.keys: list[list[Key]] = []
        most, places = max(map(len, problem.classes)), []
        for partition in partitions:
            owners = [_owners(regime, task, partition) for task in range(problem.tasks)]
            wanted = [
                (owner, name)
                for depth in range(len(owners[0]))
                for task, names in enumerate(problem.classes)
                for owner in owners[task][depth : depth + 1]
                for name in names
            ]
            keys = {key: place for place, key in enumerate(dict.fromkeys(wanted))}
            self.keys.append(list(keys))
            places.append(
                [
                    [[keys[owner, names[min(c, len(names) - 1)]] for owner in owners[t]] for c in range(most)]
                    for t, names in enumerate(problem.classes)
                ]
            )
        self.rows = max(map(len, self.keys))
        self.register_buffer("places", torch.tensor(places, device=device), persistent=False)

    def of_classes(self, rows: Tensor) -> Tensor:
        """[R, U, E] → [R, T, C, J, E]."""
        offsets = torch.arange(len(rows), device=rows.device)[:, None, None, None] * rows.shape[1]
        return rows.flatten(0, 1)[self.places + offsets]

    def start(self, features: Tensor) -> Tensor:
        """Rows [R, U, E] that are equal to the features [R or 1, T, C, E] of their classes.

        A row of several tasks, whose texts may differ, starts at their mean.
        """
        total = features.new_zeros(len(self.keys), self.rows, features.shape[-1])
        count = features.new_zeros(len(self.keys), self.rows, 1)
        for r, places in enumerate(self.places):
            for own, given in zip(places, features[r if len(features) > 1 else 0], strict=True):
                for c, place in enumerate(dict.fromkeys(own[:, -1].tolist())):
                    total[r, place] += given[c]
                    count[r, place] += 1
        return total / count.clamp(min=1)


def _owners(regime: str, task: int, partition: Sequence[Sequence[int]] | None) -> list[str]:
    """Whose rows act on a task."""
    if partition is None:
        return [f"task {task}" if regime == "single" else "all"]
    group = next(g for g, members in enumerate(partition) if task in members)
    return [f"group {group}", f"task {task}"]
