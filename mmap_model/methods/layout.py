"""Which copies of the trained tensors act on which task, of replicates whose partitions may differ.

Legend: R replicates, T tasks, M modules of a replicate (groups first, then tasks), J modules of a task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mmap_model.configuration import Partition

Modules = Literal["both", "group", "task"]


@dataclass(frozen=True)
class ModuleLayout:
    """Modules per group and per task.

    M counts the most groups of any replicate; a module that a replicate does not use gets zero gradient and
    is neither counted nor saved.

    Attributes:
        names: of the M modules.
        groups: their number in each replicate.
        members: the modules of each set, [S][J], as indices into the R·M modules of all replicates.
    """

    names: tuple[str, ...]
    groups: tuple[int, ...]
    members: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, partitions: Sequence[Partition], tasks: int, modules: Modules = "both") -> ModuleLayout:
        """Of replicates with these partitions: all modules, the groups' only or the tasks' only."""
        groups = tuple(len(p) if modules != "task" else 0 for p in partitions)
        most = max(groups)
        names = [f"group {g}" for g in range(most)]
        names += [f"task {t}" for t in range(tasks) if modules != "group"]
        members = tuple(
            tuple(r * len(names) + place for place in _places(partition, task, most, modules))
            for r, partition in enumerate(partitions)
            for task in range(tasks)
        )
        return cls(tuple(names), groups, members)

    def used(self, replicate: int) -> list[int]:
        """The modules that a replicate uses: its groups, then all tasks."""
        return [*range(self.groups[replicate]), *range(max(self.groups), len(self.names))]


def _places(groups: Partition, task: int, most: int, modules: Modules) -> list[int]:
    """The modules of a task among those of one replicate: its group's, then its own."""
    group = next(g for g, members in enumerate(groups) if task in members)
    return {"both": [group, most + task], "group": [group], "task": [task]}[modules]
