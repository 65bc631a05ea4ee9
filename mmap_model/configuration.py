"""Recipes, probes, groupings, splits and seeds: the frozen, strict values that cells are made of."""

from __future__ import annotations

import typing
from dataclasses import dataclass
from math import inf
from typing import Literal

from mmap_model.errors import ConfigurationError, require
from mmap_model.plain import to_plain
from mmap_model.revisions import added_field

Partition = tuple[tuple[int, ...], ...]
"""Disjoint groups of task indices covering all tasks, each sorted, ordered by their first member."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The recipe of a cell (paper, Implementation Details; the lineage's defaults where it is silent).

    Attributes:
        epochs: passes over the largest task (>= 1). The schedule's length; never truncated.
        batch_size: images per task and step (>= 1).
        lr: peak learning rate (> 0).
        schedule: ``cosine`` (over all epochs, stepped per epoch; see ``training.schedule``) or ``constant``.
        warmup_epochs: epochs at ``warmup_lr`` before the schedule (>= 0, < epochs).
        warmup_lr: learning rate of those epochs.
        momentum, weight_decay: of SGD, on all trained tensors.
        clip_norm: largest gradient norm per replicate, or None.
        loss_reduction: ``sum`` of the task losses (eq. 11) or their ``mean``.
        augment: apply the dataset's augmentation to training images.
        template: class prompt; ``{}`` is the class name.
        views: augmented views of each image that are drawn once (>= 1); every epoch shows one of them, chosen
            anew. None: a new view every time. Methods that train nothing before the image embedding keep the
            embeddings of all views and do not run the tower again.
    """

    epochs: int = 5
    batch_size: int = 16
    lr: float = 0.0035
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_epochs: int = 1
    warmup_lr: float = 1e-5
    momentum: float = 0.9
    weight_decay: float = 5e-4
    clip_norm: float | None = None
    loss_reduction: Literal["sum", "mean"] = "sum"
    augment: bool = True
    template: str = "a photo of a {}."
    views: int | None = added_field(None)

    def __post_init__(self) -> None:
        require(self.views is None or self.views >= 1, "recipe.views", self.views, "use null or 1 or more")
        require(self.epochs >= 1, "recipe.epochs", self.epochs, "use 1 or more")
        require(self.batch_size >= 1, "recipe.batch_size", self.batch_size, "use 1 or more")
        require(0 < self.lr < inf, "recipe.lr", self.lr, "use a positive learning rate")
        require(0 <= self.warmup_lr < inf, "recipe.warmup_lr", self.warmup_lr, "use 0 or more")
        require(
            0 <= self.warmup_epochs < self.epochs,
            "recipe.warmup_epochs",
            self.warmup_epochs,
            f"use 0 to {self.epochs - 1}, fewer than recipe.epochs={self.epochs}",
        )
        require(0 <= self.momentum < 1, "recipe.momentum", self.momentum, "use 0 <= momentum < 1")
        require(0 <= self.weight_decay < inf, "recipe.weight_decay", self.weight_decay, "use 0 or more")
        require(
            self.clip_norm is None or 0 < self.clip_norm < inf,
            "recipe.clip_norm",
            self.clip_norm,
            "use null or > 0",
        )
        require("{}" in self.template, "recipe.template", self.template, "write {} where the class name goes")


@dataclass(frozen=True, kw_only=True)
class Probe:
    """The run that measures task affinity (eq. 8): one global MmAP trained on all tasks.

    Attributes:
        prompt_length, source_rows, source_cols, scale_init: shape of the global MmAP; ``same=True`` takes the
            trial's own shape and recipe instead (the literal reading of the paper).
        recipe: how it is trained.
        snapshot_every: steps between recorded gradient Gram matrices (>= 1); trials may use any multiple.
    """

    prompt_length: int = 4
    source_rows: int = 4
    source_cols: int = 32
    scale_init: float | None = None
    recipe: Recipe = Recipe()
    snapshot_every: int = 2
    same: bool = False

    def __post_init__(self) -> None:
        require(
            self.snapshot_every >= 1, "grouping.probe.snapshot_every", self.snapshot_every, "use 1 or more"
        )


@dataclass(frozen=True, kw_only=True)
class Grouping:
    """The grouping of tasks (paper, section on the multi-task prompt learning framework, eq. 8).

    Attributes:
        mode: ``gradient`` (from the probe), ``random`` (keyed by the train seed), ``fixed`` (``partition``),
            ``single`` (all tasks in one group).
        groups: exact number of groups, or None to let the objective decide.
        similarity: ``dot`` (eq. 8) or ``cosine``.
        space: gradients with respect to the generated ``prompts`` or to the MmAP ``parameters``.
        objective: ``tag_mean``, ``sum`` or ``sum_centered``.
        snapshot_every: steps between the snapshots that are averaged; a multiple of ``probe.snapshot_every``.
        partition: the groups of ``fixed``, as task indices.
        probe: the run that is measured.
    """

    mode: Literal["gradient", "random", "fixed", "single"] = "gradient"
    groups: int | None = None
    similarity: Literal["dot", "cosine"] = "dot"
    space: Literal["prompts", "parameters"] = "prompts"
    objective: Literal["tag_mean", "sum", "sum_centered"] = "tag_mean"
    snapshot_every: int = 10
    partition: Partition | None = None
    probe: Probe = Probe()

    def __post_init__(self) -> None:
        require(
            self.groups is None or self.groups >= 1, "grouping.groups", self.groups, "use null or 1 or more"
        )
        require(
            self.mode != "gradient"
            or (self.snapshot_every >= 1 and self.snapshot_every % self.probe.snapshot_every == 0),
            "grouping.snapshot_every",
            self.snapshot_every,
            f"use a multiple of grouping.probe.snapshot_every={self.probe.snapshot_every}",
        )
        require(
            (self.partition is not None) == (self.mode == "fixed"),
            "grouping.partition",
            self.partition,
            "give it with mode: fixed, and only then",
        )
        if self.partition is not None:
            object.__setattr__(self, "partition", canonical_partition(self.partition))


@dataclass(frozen=True, kw_only=True)
class Split:
    """The labelled share of each task: ``shots`` per class, or ``percent`` of each class."""

    shots: int | None = None
    percent: float | None = None

    def __post_init__(self) -> None:
        require(
            (self.shots is None) != (self.percent is None), "split", to_plain(self), "give shots or percent"
        )
        require(self.shots is None or self.shots >= 1, "split.shots", self.shots, "use 1 or more")
        require(
            self.percent is None or 0 < self.percent < 100,
            "split.percent",
            self.percent,
            "use more than 0 and less than 100",
        )

    @property
    def label(self) -> str:
        return f"{self.shots}-shot" if self.shots is not None else f"{self.percent:g}%"


@dataclass(frozen=True, kw_only=True)
class Seeds:
    """``draw`` fixes the labelled sample, ``train`` initialisation, order and augmentation."""

    draw: int
    train: int

    @classmethod
    def both(cls, seed: int) -> Seeds:
        return cls(draw=seed, train=seed)

    @property
    def label(self) -> str:
        return str(self.draw) if self.draw == self.train else f"{self.draw}/{self.train}"


def canonical_partition(groups: typing.Iterable[typing.Iterable[int]]) -> Partition:
    """Sort each group and order groups by first member.

    Raises ConfigurationError unless every task index from 0 on stands in exactly one group.
    """
    result = tuple(sorted(tuple(sorted(int(t) for t in g)) for g in groups))
    members = sorted(t for g in result for t in g)
    if not members or members != list(range(len(members))) or any(not g for g in result):
        raise ConfigurationError(
            f"{[list(g) for g in result]} is not a partition of tasks 0 to {max(members, default=0)}",
            where="grouping.partition",
            fix="name every task index exactly once",
        )
    return result
