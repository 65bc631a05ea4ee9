"""How many groups a grouping can come to, before any affinity is known."""

from __future__ import annotations

from mmap_model.configuration import Grouping


def group_range(grouping: Grouping | None, tasks: int) -> tuple[int, int]:
    """Least and largest number of groups of ``tasks`` tasks (both 1 without a grouping).

    ``tag_mean`` forbids singletons, hence at most tasks // 2 groups; ``sum`` and ``sum_centered`` do not.
    """
    if grouping is None or grouping.mode == "single" or tasks == 1:
        return 1, 1
    if grouping.mode == "fixed":
        assert grouping.partition is not None, "checked by Grouping"
        return len(grouping.partition), len(grouping.partition)
    if grouping.groups is not None:
        return grouping.groups, grouping.groups
    return 1, largest_groups(grouping.objective, tasks)


def largest_groups(objective: str, tasks: int) -> int:
    """The most groups that ``objective`` allows."""
    return max(1, tasks // 2) if objective == "tag_mean" else tasks
