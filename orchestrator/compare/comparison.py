"""What a comparison found, as plain values: reports are made of this alone. Imports nothing heavy."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mmap_model.configuration import Partition, Protocol
from mmap_model.plain import from_plain

RecipeChoice = Literal["shared", "published", "tuned"]
"""``shared``: one learning rate for all columns, as in the paper. ``published``: what a method's authors
give, fixed beforehand. ``tuned``: the best on validation."""

Edge = Literal["low", "high"] | None
"""The end of the range that a tuned learning rate lies at, if so."""

ColumnSection = Literal["table", "ablation"]
"""``table``: columns of Tables 1 and 2. ``ablation``: rows of Table 3 and of the prompt-generator figure."""


@dataclass(frozen=True, kw_only=True)
class Around:
    """Learning rates around each column's own published one: the same budget for every column.

    Attributes:
        first: tried for every column, evenly spaced in their logarithm, the published one in the middle.
        most: tried for a column at most: while the best lies at an end, one more beyond it. A column whose
            best is then still at an end is not ranked.
        factor: between neighbours.
    """

    first: int = 3
    most: int = 7
    factor: float = 10**0.5


@dataclass(frozen=True, kw_only=True)
class Column:
    """One method with its settings, as a column of Tables 1 and 2 or a row of Table 3.

    Attributes:
        name: unique in the comparison, e.g. ``coop_mt``.
        label: as the paper heads it, e.g. ``CoOp-MT``.
        section: where it stands.
        method, settings: the registered method and all its settings, JSON-ready.
        regime: ``single`` (a copy per task), ``multi``, ``grouped``, or None where nothing is trained.
        grouping: ``gradient``, ``fixed``, ``random``, ``single``; None for methods that group no tasks.
        partition: of ``fixed``.
        parameters: exact count; of a grouped method at the largest number of groups among its cells.
        share: ``parameters`` over those of the backbone.
        printed: the "Parameters" of the paper's Tables 1 and 2 or figure 4 ("0.13M"), or None.
    """

    name: str
    label: str
    section: ColumnSection = "table"
    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    regime: Literal["single", "multi", "grouped"] | None = "multi"
    grouping: str | None = None
    partition: Partition | None = None
    parameters: int = 0
    share: float = 0.0
    printed: str | None = None


@dataclass(frozen=True, kw_only=True)
class RateTrial:
    """One learning rate that was tried: its validation accuracy by seed (fraction), or why it failed."""

    lr: float
    validation: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class ColumnResult:
    """One column at one split under one recipe.

    Attributes:
        column: name of the column.
        split: its label, e.g. ``6-shot``.
        recipe: shared or tuned.
        lr: peak learning rate; None where nothing is trained.
        loss_reduction: ``sum`` or ``mean`` of the task losses.
        edge: the tuned rate is the ``low`` or ``high`` end of the range, so a better one may lie outside.
        tasks: test accuracy (fraction) by task and seed label.
        validation: accuracy (mean over tasks) by seed label; empty without validation images.
        seconds: of training and evaluation, all seeds together.
        probe_seconds: of the grouping probes, all seeds together; charged to ``gradient`` grouping.
        partitions: by seed label, of grouped methods.
        cells: keys in the ledger by seed label.
        trials: the rates tried, of a tuned entry.
        error: why it has no numbers (``tasks`` is then empty).
        search_seconds: of the other rates that were tried, all seeds together.
        optimiser, epochs, batch_size: of its recipe; None where nothing is trained, or in older records.
        steps: of the whole training, where its recipe counts them in place of passes over the images.
        calibration: expected calibration error on the test images by seed label, the mean over tasks; without
            failed starts.
        failed_starts: test accuracy by task of the seeds whose training failed from its start on, by seed
            label (`orchestrator.compare.failed_starts`): they are counted, and not in ``tasks``.
        derived_from: columns whose entries it averages; it has no cells of its own.
    """

    column: str
    split: str
    recipe: RecipeChoice
    lr: float | None = None
    loss_reduction: str = "sum"
    edge: Edge = None
    tasks: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    validation: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    probe_seconds: float = 0.0
    partitions: Mapping[str, Partition] = field(default_factory=dict)
    cells: Mapping[str, str] = field(default_factory=dict)
    trials: tuple[RateTrial, ...] = ()
    error: str | None = None
    derived_from: tuple[str, ...] = ()
    search_seconds: float = 0.0
    optimiser: str | None = None
    epochs: int | None = None
    batch_size: int | None = None
    steps: int | None = None
    calibration: Mapping[str, float] = field(default_factory=dict)
    failed_starts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def seed_means(self) -> dict[str, float]:
        """Test accuracy by seed, averaged over tasks: the unit of all statistics."""
        seeds = next(iter(self.tasks.values()), {})
        return {seed: sum(task[seed] for task in self.tasks.values()) / len(self.tasks) for seed in seeds}


@dataclass(frozen=True, kw_only=True)
class Affinity:
    """What the probe of one seed and split measured (eq. 8).

    Attributes:
        split, seed: labels.
        similarity: averaged over snapshots, [T][T], in the order of the comparison's tasks.
        partition, score: the best one.
        second, second_score, margin: the next best partition and the distance to it.
        agreement, bootstrap: share of snapshots, and of resamples of them, with the same best partition.
        notes: what must be said beside it.
    """

    split: str
    seed: str
    similarity: tuple[tuple[float, ...], ...]
    partition: Partition
    score: float | None = None
    second: Partition | None = None
    second_score: float | None = None
    margin: float | None = None
    agreement: float | None = None
    bootstrap: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All columns of one dataset.

    Attributes:
        name: of the comparison, e.g. ``symbols``.
        dataset, manifest: the dataset's name and hash.
        backbone, fingerprint: the CLIP's name and hash of its weights.
        backbone_parameters: of the whole CLIP, unused vocabulary left out.
        protocol: ``search`` (test apart from validation), ``clap`` (the same without validation) or ``paper``
            (test is all that is not trained on).
        precision: of the backbone.
        seeds, splits, tasks: labels, in order.
        label_budget: labelled images per class and task by split: (training, validation).
        recipe: the shared recipe, JSON-ready.
        rates: learning rates of the tuned recipe, ascending; empty without ``--tune``, and with ``around``.
        around: how each column's own rates were searched; None where all columns tried the same.
        columns, entries, affinities: what was found.
        looks: test-set evaluations: ``{time, reason, keys}``.
        provenance: versions, machine, commit.
        commands: command lines that contributed.
    """

    name: str
    dataset: str
    manifest: str = ""
    backbone: str
    fingerprint: str = ""
    backbone_parameters: int = 0
    protocol: Protocol = "search"
    precision: str = "fp32"
    seeds: tuple[str, ...]
    splits: tuple[str, ...]
    tasks: tuple[str, ...]
    label_budget: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    rates: tuple[float, ...] = ()
    around: Around | None = None
    columns: tuple[Column, ...] = ()
    entries: tuple[ColumnResult, ...] = ()
    affinities: tuple[Affinity, ...] = ()
    looks: tuple[Mapping[str, Any], ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    commands: tuple[str, ...] = ()

    def column(self, name: str) -> Column:
        """The column of that name; KeyError if there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    def entry(self, column: str, split: str, recipe: RecipeChoice) -> ColumnResult | None:
        """The entry with numbers of a column, or None."""
        for entry in self.entries:
            if (entry.column, entry.split, entry.recipe) == (column, split, recipe) and entry.tasks:
                return entry
        return None

    def is_ranked(self, entry: ColumnResult) -> bool:
        """Whether its number may be compared: not if a better rate lies beyond those it could try."""
        return self.around is None or entry.recipe != "tuned" or entry.edge is None

    @property
    def tunes(self) -> bool:
        """Whether rates were searched."""
        return bool(self.rates) or self.around is not None

    def to_json(self) -> str:
        """One JSON document; `from_json` reads it back."""
        return json.dumps(dataclasses.asdict(self), indent=1, allow_nan=False) + os.linesep

    @classmethod
    def from_json(cls, text: str) -> Comparison:
        """What `to_json` wrote."""
        return from_plain(cls, json.loads(text), "comparison.json")
