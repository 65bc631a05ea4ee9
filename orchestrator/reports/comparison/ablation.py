"""Table 3 and figure 4 of one split under one recipe, as numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.compare.comparison import Column, ColumnResult, Comparison, RecipeChoice
from orchestrator.reports.comparison.pairings import Pairings, pairings
from orchestrator.reports.comparison.roles import GENERATORS, failure, gradient_grouped, measured
from orchestrator.statistics.summary import Summary, paired_difference, summarize

ORDER = {"task": 0, "group": 1, "random": 2, "gradient": 3, "single": 4}
"""Of the rows of Table 3: which prompts there are, then how tasks are grouped."""


@dataclass(frozen=True, kw_only=True)
class AblationRow:
    """One variant beside MmAP as published.

    Attributes:
        label: its name.
        parameters: exact count; 0 where it is a mean of several.
        tokens: prompts that each tower sees; None where that is not known.
        seeds: test accuracy by seed (fraction); empty where it has no numbers.
        tasks: test accuracy by task and seed.
        entry: of the column, None for a mean of columns.
        loss: paired difference to MmAP as published (fraction); None for that row itself.
        error: why it has no numbers.
        published: whether it is MmAP as published.
        order: its place among the rows of Table 3.
    """

    label: str
    parameters: int
    tokens: int | None
    seeds: Mapping[str, float]
    tasks: Mapping[str, Mapping[str, float]]
    entry: ColumnResult | None
    loss: Summary | None
    error: str | None = None
    published: bool = False
    order: int = 0

    @property
    def average(self) -> Summary | None:
        return summarize(list(self.seeds.values())) if self.seeds else None


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """Both ablations of one split under one recipe: the framework (Table 3) and the generators (figure 4)."""

    comparison: Comparison
    split: str
    recipe: RecipeChoice
    framework: tuple[AblationRow, ...]
    generators: tuple[AblationRow, ...]
    pairings: Pairings | None


def ablation(comparison: Comparison, split: str, recipe: RecipeChoice) -> Ablation | None:
    """Rows in the paper's order; None if nothing beside MmAP itself was tried.

    Fixed partitions are not rows: their ranking is `Pairings`, and their mean the row of random grouping,
    seed by seed without the partition that the gradients chose.
    """
    published = gradient_grouped(comparison)
    reference = None if published is None else measured(comparison, published, split, recipe)
    others = [c for c in comparison.columns if c.section == "ablation"]
    known = {e.column for e in comparison.entries if (e.split, e.recipe) == (split, recipe)}
    tried = [c for c in others if c.name in known]
    found = pairings(comparison, split, recipe)

    def from_column(column: Column, label: str | None = None) -> AblationRow:
        entry = measured(comparison, column, split, recipe)
        own = column is published
        return AblationRow(
            label=label or column.label,
            parameters=column.parameters,
            tokens=_tokens(column.settings),
            seeds={} if entry is None else entry.seed_means(),
            tasks={} if entry is None else entry.tasks,
            entry=entry,
            loss=None if own or entry is None or reference is None else _difference(entry, reference),
            error=None if entry else failure(comparison, column, split, recipe) or "not measured",
            published=own,
            order=_order(column),
        )

    framework = [from_column(c) for c in tried if c.method == "mmap" and c.grouping != "fixed"]
    if found is not None and not any(c.grouping == "random" for c in tried):
        framework.append(_random(found, published, reference))
    if framework and published is not None:
        framework.append(from_column(published, "gradient grouping"))
    framework.sort(key=lambda line: line.order)
    generators = [from_column(c) for c in tried if c.method in GENERATORS and c.method != "mmap"]
    if not framework and not generators and found is None:
        return None
    own = [] if published is None else [from_column(published)]
    return Ablation(
        comparison=comparison,
        split=split,
        recipe=recipe,
        framework=tuple(framework),
        generators=(*generators, *own) if generators else (),
        pairings=found,
    )


def _random(found: Pairings, published: Column | None, reference: ColumnResult | None) -> AblationRow:
    seeds = found.others()
    assert published is not None and reference is not None, "pairings come with the partition chosen"
    return AblationRow(
        label="random grouping",
        parameters=published.parameters,
        tokens=_tokens(published.settings),
        seeds=seeds,
        tasks={},
        entry=None,
        loss=paired_difference(seeds, reference.seed_means()),
        order=ORDER["random"],
    )


def _difference(entry: ColumnResult, reference: ColumnResult) -> Summary | None:
    return paired_difference(entry.seed_means(), reference.seed_means())


def _order(column: Column) -> int:
    modules = str(column.settings.get("modules", "both"))
    return ORDER.get(column.grouping or "", len(ORDER)) if modules == "both" else ORDER[modules]


def _tokens(settings: Mapping[str, Any]) -> int | None:
    length = settings.get("prompt_length")
    if not isinstance(length, int):
        return None
    return 2 * length if settings.get("modules", "both") == "both" else length
