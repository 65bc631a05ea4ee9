"""Recipes, probes, groupings, splits and seeds: the frozen, strict values that cells are made of."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Literal

from mmap_model.errors import ConfigurationError, nearest, require
from mmap_model.plain import to_plain
from mmap_model.revisions import added_field
from mmap_model.templates import TEMPLATE_SETS

Partition = tuple[tuple[int, ...], ...]
"""Disjoint groups of task indices covering all tasks, each sorted, ordered by their first member."""

Protocol = Literal["search", "paper", "clap"]
"""What is not trained on. ``search``: validation images choose, others test. ``clap``: the same images train
and test, and none validate (Silva-Rodríguez et al., "A Closer Look at the Few-Shot Adaptation of Large
Vision-Language Models", CVPR 2024): all settings are fixed beforehand. ``paper``: all of the rest tests."""


def has_validation(protocol: Protocol) -> bool:
    """Whether a protocol keeps validation images apart; without them nothing may be chosen."""
    return protocol == "search"


def named_templates(templates: Sequence[str], where: str) -> tuple[str, ...]:
    """Texts with a place for the class name: given ones, and those of the sets that are named.

    Raises:
        ConfigurationError: no place, and no set of that name.
    """
    found: list[str] = []
    for text in templates:
        known = nearest(text, TEMPLATE_SETS)
        fix = f"{known}, or write {{}} where the class name goes"
        require("{}" in text or text in TEMPLATE_SETS, where, text, fix)
        found += TEMPLATE_SETS.get(text, (text,))
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class ParameterGroup:
    """Trained tensors that are optimised in another way than the rest.

    Attributes:
        match: their names, with ``*`` and ``?``; a tensor belongs to the first group that matches.
        lr_factor: times the recipe's learning rate (>= 0).
        weight_decay: in place of the recipe's, or None.
    """

    match: str
    lr_factor: float = 1.0
    weight_decay: float | None = None

    def __post_init__(self) -> None:
        require(0 <= self.lr_factor < inf, "recipe.groups.lr_factor", self.lr_factor, "use 0 or more")
        require(
            self.weight_decay is None or 0 <= self.weight_decay < inf,
            "recipe.groups.weight_decay",
            self.weight_decay,
            "use null, or 0 or more",
        )


@dataclass(frozen=True, kw_only=True)
class TaskTemplates:
    """Class prompts of one task, in place of the recipe's.

    Attributes:
        task: its name.
        templates: as ``Recipe.templates``.
    """

    task: str
    templates: tuple[str, ...]

    def __post_init__(self) -> None:
        where = "recipe.task_templates.templates"
        require(bool(self.templates), where, self.templates, "give one or more")
        named_templates(self.templates, where)


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
        loss_reduction: ``sum`` of the task losses (eq. 11) or their ``mean`` over all tasks. By ``mean`` what
            only one of T tasks trains, such as a copy of its own, takes 1/T of its gradient.
        augment: apply the dataset's augmentation to training images.
        template: class prompt; ``{}`` is the class name.
        templates: texts whose class features are averaged, in place of ``template``, or names of sets
            (``clip_7``, ``clip_60``, ``clip_80``); for methods that leave the texts as they are.
        task_templates: the same for tasks that have others.
        optimiser: ``sgd`` with ``momentum``, ``adam`` (``weight_decay`` joins its gradients) or ``adamw``.
        eps: of Adam and AdamW (> 0); their betas are 0.9 and 0.999.
        groups: tensors with another rate or decay.
        lr_moves: let the cosine go down with every ``epoch`` or every ``step``.
        final_lr: where it ends (>= 0).
        steps: of the whole training, divided evenly among ``epochs``, in place of passes over the largest
            task (a multiple of ``epochs``). Tasks start over, reshuffled, within an epoch.
        steps_per_shot: ``steps`` for every shot of the split.
        last_batch: images that do not make a whole batch at the end of a pass: ``drop`` them, or ``fill`` the
            batch from the next pass. Where ``steps`` are given, batches are always filled.
        average: what is kept: the ``last`` epoch's end, the ``mean`` of all, or their ``gaussian`` mean, with
            the weights of a normal distribution with ``average_mean`` and ``average_std``, in epochs.
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
    templates: tuple[str, ...] = added_field(())
    task_templates: tuple[TaskTemplates, ...] = added_field(())
    optimiser: Literal["sgd", "adam", "adamw"] = added_field("sgd")
    eps: float = added_field(1e-8)
    groups: tuple[ParameterGroup, ...] = added_field(())
    lr_moves: Literal["epoch", "step"] = added_field("epoch")
    final_lr: float = added_field(0.0)
    steps: int | None = added_field(None)
    steps_per_shot: int | None = added_field(None)
    last_batch: Literal["drop", "fill"] = added_field("drop")
    average: Literal["last", "mean", "gaussian"] = added_field("last")
    average_mean: float | None = added_field(None)
    average_std: float | None = added_field(None)

    def __post_init__(self) -> None:
        named_templates(self.templates, "recipe.templates")
        require(0 < self.eps < inf, "recipe.eps", self.eps, "use more than 0")
        require(0 < self.lr < inf, "recipe.lr", self.lr, "use a positive learning rate")
        require(0 <= self.final_lr <= self.lr, "recipe.final_lr", self.final_lr, f"use 0 to {self.lr}")
        per_shot = self.steps_per_shot
        require(per_shot is None or per_shot >= 1, "recipe.steps_per_shot", per_shot, "use null or 1 or more")
        require(
            self.steps is None or per_shot is None,
            "recipe.steps_per_shot",
            per_shot,
            "give either it or recipe.steps",
        )
        require(
            self.steps is None or (self.steps >= 1 and self.steps % self.epochs == 0),
            "recipe.steps",
            self.steps,
            f"use a multiple of recipe.epochs={self.epochs}",
        )
        gaussian = self.average == "gaussian"
        for name in ("average_mean", "average_std"):
            value = getattr(self, name)
            right = value is not None and 0 < value < inf if gaussian else value is None
            wanted = "use a positive number of epochs" if gaussian else "give it with average: gaussian alone"
            require(right, f"recipe.{name}", value, wanted)
        require(self.views is None or self.views >= 1, "recipe.views", self.views, "use null or 1 or more")
        require(self.epochs >= 1, "recipe.epochs", self.epochs, "use 1 or more")
        require(self.batch_size >= 1, "recipe.batch_size", self.batch_size, "use 1 or more")
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

    def templates_of(self, tasks: Sequence[str]) -> list[tuple[str, ...]] | None:
        """The texts that are averaged, by task; None where every class has the one of ``template``.

        Raises:
            ConfigurationError: ``task_templates`` names a task that is not there.
        """
        if not self.templates and not self.task_templates:
            return None
        own = {given.task: given.templates for given in self.task_templates}
        for name in own:
            require(name in tasks, "recipe.task_templates.task", name, nearest(name, tasks))
        common = self.templates or (self.template,)
        return [named_templates(own.get(task, common), "recipe.templates") for task in tasks]

    def epoch_of(self, images: int) -> tuple[int, int]:
        """Steps of an epoch, and images of a step and task, where the largest task has so many images.

        Args:
            images: of the largest task (>= 1). The recipe is that for their split.
        """
        assert images > 0, "a draw has at least one training image"
        batch_size = min(self.batch_size, images)
        if self.steps is not None:
            return self.steps // self.epochs, batch_size
        return (images // batch_size if self.last_batch == "drop" else -(-images // batch_size)), batch_size

    def for_split(self, split: Split) -> Recipe:
        """The same with ``steps`` in place of ``steps_per_shot``.

        Raises:
            ConfigurationError: the split is a percentage, or its steps are no multiple of the epochs.
        """
        if self.steps_per_shot is None:
            return self
        if split.shots is None:
            raise ConfigurationError(
                f"{self.steps_per_shot} steps for every shot say nothing of a split of {split.label}",
                where="recipe.steps_per_shot",
                fix="give recipe.steps, or splits in shots",
            )
        return replace(self, steps=self.steps_per_shot * split.shots, steps_per_shot=None)


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
        snapshot_every: steps between the snapshots that are averaged; a multiple of ``probe.snapshot_every``,
            which a study takes in place of the default where its probe is too short for that.
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
