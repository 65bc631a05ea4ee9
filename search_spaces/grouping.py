"""How gradient affinities turn into groups: objective, number, similarity, snapshots (eq. 8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from search_spaces.errors import SpaceError
from search_spaces.groups import largest_groups
from search_spaces.space import Draft, Limits, Space, register
from search_spaces.suggesters import Suggester, conditional_name


@register("grouping")
@dataclass(frozen=True, kw_only=True)
class GroupingSpace(Space):
    """The readings of the paper's grouping. An option left at None is not searched: the study's value holds.

    All choices share one probe, so what they cost is the training of partitions not met before.

    Attributes:
        objective: of ``tag_mean``, ``sum``, ``sum_centered``.
        groups: exact numbers of groups; null lets the objective decide. ``tag_mean`` takes up to tasks // 2.
        similarity: of ``dot``, ``cosine``.
        space: gradients with respect to ``prompts`` or ``parameters``.
        snapshot_every: steps between averaged snapshots; multiples of the probe's own interval.
    """

    objective: tuple[Literal["tag_mean", "sum", "sum_centered"], ...] | None = None
    groups: tuple[int | None, ...] | None = None
    similarity: tuple[Literal["dot", "cosine"], ...] | None = ("dot", "cosine")
    space: tuple[Literal["prompts", "parameters"], ...] | None = None
    snapshot_every: tuple[int, ...] | None = None

    independent = True

    def writes(self) -> tuple[str, ...]:
        names = ("objective", "groups", "similarity", "space", "snapshot_every")
        return tuple(f"grouping.{name}" for name in names if getattr(self, name) is not None)

    def suggest(self, trial: Suggester, draft: Draft, limits: Limits) -> None:
        grouping = draft["grouping"]
        if self.objective is not None:
            grouping["objective"] = trial.suggest_categorical("objective", self.objective)
        if self.groups is not None:
            objective = grouping["objective"]
            choices = self._groups(objective, limits.tasks)
            whole = choices == self.groups
            name = "groups" if whole else conditional_name("groups", objective=objective)
            grouping["groups"] = trial.suggest_categorical(name, choices)
        for name in ("similarity", "space", "snapshot_every"):
            if (listed := getattr(self, name)) is not None:
                grouping[name] = trial.suggest_categorical(name, listed)

    def check(self, draft: Draft, limits: Limits, where: str) -> None:
        grouping = draft["grouping"]
        mode = grouping["mode"] if grouping else None
        if mode != "gradient":
            raise SpaceError(
                f"the grouping is {mode}, so there is nothing to search in it"
                if mode
                else "nothing to group",
                where=f"{where}.name",
                fix="use grouping.mode: gradient with a grouped method, or remove this space",
            )
        for key in self.writes():
            listed = getattr(self, key.removeprefix("grouping."))
            if not listed or len(set(listed)) < len(listed):
                raise SpaceError(
                    f"{list(listed)} is not a list of different values",
                    where=key.replace("grouping", where, 1),
                    fix="list each candidate once",
                )
        objectives = self.objective or (grouping["objective"],)
        for count in self.groups or ():
            if not any(_allows(o, count, limits.tasks) for o in objectives):
                most = max(largest_groups(o, limits.tasks) for o in objectives)
                raise SpaceError(
                    f"{count} groups of {limits.tasks} tasks cannot be made with {', '.join(objectives)}",
                    where=f"{where}.groups",
                    fix=f"use 1 to {most}, or null",
                )
        for objective in objectives:
            if self.groups is not None and not self._groups(objective, limits.tasks):
                raise SpaceError(
                    f"{objective} makes none of {list(self.groups)} groups of {limits.tasks} tasks",
                    where=f"{where}.groups",
                    fix=f"add null or a number from 1 to {largest_groups(objective, limits.tasks)}",
                )
        interval = grouping["probe"]["snapshot_every"]
        for every in self.snapshot_every or ():
            if every < 1 or every % interval:
                raise SpaceError(
                    f"{every} is not a multiple of the probe's interval {interval}",
                    where=f"{where}.snapshot_every",
                    fix=f"use multiples of grouping.probe.snapshot_every={interval}",
                )

    def most_groups(self, draft: Draft, tasks: int) -> int | None:
        grouping = draft["grouping"]
        if not grouping or (self.groups is None and self.objective is None):
            return None
        objectives = self.objective or (grouping["objective"],)
        counts = self.groups if self.groups is not None else (grouping["groups"],)
        return max(
            largest_groups(o, tasks) if count is None else min(count, largest_groups(o, tasks))
            for o in objectives
            for count in counts
        )

    def _groups(self, objective: str, tasks: int) -> tuple[int | None, ...]:
        return tuple(count for count in self.groups or () if _allows(objective, count, tasks))


def _allows(objective: str, count: int | None, tasks: int) -> bool:
    return count is None or 1 <= count <= largest_groups(objective, tasks)
