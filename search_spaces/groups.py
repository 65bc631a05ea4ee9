"""How many groups a grouping can come to, before any affinity is known."""

from __future__ import annotations

from mmap_model.configuration import Grouping
from mmap_model.errors import ConfigurationError


def group_range(grouping: Grouping | None, tasks: int) -> tuple[int, int]:
    """Least and largest number of groups that ``tasks`` tasks can come to (both 1 without a grouping).

    Left to the objective, ``tag_mean`` forms pairs and triples only, ``sum`` and ``sum_centered``
    anything from one group to singletons; ``random`` forms pairs and at most one triple.
    """
    if grouping is None or grouping.mode == "single":
        return 1, 1
    if grouping.partition is not None:
        return len(grouping.partition), len(grouping.partition)
    if grouping.groups is not None:
        return grouping.groups, grouping.groups
    if grouping.mode == "random":
        return tasks // 2, tasks // 2
    if grouping.objective == "tag_mean":
        return -(-tasks // 3), tasks // 2
    return 1, tasks


def largest_groups(objective: str, tasks: int) -> int:
    """The most groups that can be asked of ``objective``: ``tag_mean`` forbids singletons."""
    return tasks // 2 if objective == "tag_mean" else tasks


def check_grouping(grouping: Grouping, tasks: int) -> None:
    """Raise ConfigurationError unless ``tasks`` tasks can be grouped this way."""
    if grouping.partition is not None and sum(map(len, grouping.partition)) != tasks:
        raise ConfigurationError(
            f"{[list(g) for g in grouping.partition]} is not a partition of the dataset's {tasks} tasks",
            where="grouping.partition",
            fix=f"name every task index from 0 to {tasks - 1} exactly once",
        )
    if grouping.mode not in ("gradient", "random"):
        return
    objective = grouping.objective if grouping.mode == "gradient" else "sum"
    if tasks < 2 and (objective == "tag_mean" or grouping.groups is None):
        raise ConfigurationError("one task cannot be grouped", where="grouping.mode", fix="use mode: single")
    most = largest_groups(objective, tasks)
    if grouping.groups is not None and grouping.groups > most:
        reason = " by tag_mean, which forbids groups of one task" if objective == "tag_mean" else ""
        raise ConfigurationError(
            f"{tasks} tasks cannot form {grouping.groups} groups{reason}",
            where="grouping.groups",
            fix=f"use 1 to {most}, or null",
        )
