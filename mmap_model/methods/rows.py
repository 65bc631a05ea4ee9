"""Base of the methods that train a row for every class, keyed by its name; images meet nothing trained.

Legend: R replicates, T tasks, C classes (the most of any task), U rows of a replicate, J rows that act on a
class (2 in the ``grouped`` regime, else 1), E embedding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmap_model.backbone import Backbone
from mmap_model.forward.precision import full_precision
from mmap_model.methods.base import GroupedRegime
from mmap_model.methods.problem import Problem
from mmap_model.methods.prompted import PromptedModel

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
        """Rows [R, U, E] that are equal to the features [T, C, E] of their classes.

        A row of several tasks, whose texts may differ, starts at their mean.
        """
        total = features.new_zeros(len(self.keys), self.rows, features.shape[-1])
        count = features.new_zeros(len(self.keys), self.rows, 1)
        for r, places in enumerate(self.places):
            for own, given in zip(places, features, strict=True):
                for c, place in enumerate(dict.fromkeys(own[:, -1].tolist())):
                    total[r, place] += given[c]
                    count[r, place] += 1
        return total / count.clamp(min=1)


class RowsModel(PromptedModel):
    """Class features of trained rows and constant raw text features; the image tower is the plain one.

    Attributes:
        rows: [R, U, E]. In the ``grouped`` regime, and with ``residual``, they start at zero and are added
            to the raw text features; else they start there, and stand for them.
        raw_texts: text features before normalisation, [T, C, E].
    """

    constant_images = True
    rows: nn.Parameter
    raw_texts: Tensor

    def __init__(
        self,
        backbone: Backbone,
        problem: Problem,
        *,
        regime: GroupedRegime,
        residual: bool = False,
        weight: float = 1.0,
    ) -> None:
        """See ``Method.build``.

        Args:
            residual: train what is added to the text features in place of them.
            weight: factor of what is added.
        """
        super().__init__(backbone, problem, text_prompts_by="none")
        self.index = RowIndex(problem, regime, backbone.device)
        self.is_residual, self.weight = residual or regime == "grouped", weight
        with torch.no_grad():
            texts = self.raw_class_features()[0]
        self.register_buffer("raw_texts", texts, persistent=False)
        start = self.index.start(texts)
        self.rows = nn.Parameter(torch.zeros_like(start) if self.is_residual else start)

    def image_prompts(self) -> Sequence[Tensor]:
        return ()

    def class_features(self) -> Tensor:
        with full_precision(self.rows):
            return F.normalize(self.unnormalised(), dim=-1)

    def unnormalised(self) -> Tensor:
        """Class embeddings before normalisation, [R, T, C, E]."""
        trained = self.index.of_classes(self.rows).sum(3)
        return self.raw_texts + self.weight * trained if self.is_residual else trained

    def state_rows(self, name: str, replicate: int) -> list[int] | slice:
        return slice(len(self.index.keys[replicate])) if name == "rows" else slice(None)


def _owners(regime: str, task: int, partition: Sequence[Sequence[int]] | None) -> list[str]:
    """Whose rows act on a task."""
    if partition is None:
        return [f"task {task}" if regime == "single" else "all"]
    group = next(g for g, members in enumerate(partition) if task in members)
    return [f"group {group}", f"task {task}"]
