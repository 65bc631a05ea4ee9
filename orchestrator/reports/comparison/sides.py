"""What claims compare: a column's accuracy by seed, or that of several columns taken together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from orchestrator.compare.comparison import Column, ColumnResult, Comparison, RecipeChoice
from orchestrator.reports.comparison.pairings import pairings
from orchestrator.reports.comparison.roles import (
    SINGLE_TASK_PROMPTS,
    find,
    find_ablation,
    full_label,
    gradient_grouped,
    measured,
)
from orchestrator.tables.words import enumeration


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two things a claim compares.

    Attributes:
        label: its name.
        seeds: accuracy by seed, averaged over tasks (fraction); empty where there are no numbers.
        lr, edge: see ``ColumnResult``.
        why: what must be said of it: the reason where it has no numbers, or a caution.
        among: accuracy by seed of the columns it is the best of, where these same numbers selected it.
        failed: seeds whose start failed (`orchestrator.compare.failed_starts`): they are not in ``seeds``.
    """

    label: str
    seeds: Mapping[str, float]
    lr: float | None = None
    edge: Literal["low", "high"] | None = None
    why: str = ""
    among: tuple[Mapping[str, float], ...] = ()
    failed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pick:
    """How a side is found.

    Attributes:
        find: the side at a split under a recipe; None if the comparison has no such column.
        paper: method and regime under which the paper prints it, if it does.
    """

    find: Callable[[Comparison, str, RecipeChoice], Side | None]
    paper: tuple[str, str] | None = None


def table_side(method: str, regime: str = "multi") -> Pick:
    """A column of Tables 1 and 2."""
    return _pick(lambda comparison: find(comparison, method, regime), method, regime)


def ablation_side(*, method: str = "mmap", grouping: str | None = None, paper: str | None = None) -> Pick:
    """A row of the ablations, and what the paper's is called."""
    return _pick(lambda comparison: find_ablation(comparison, method=method, grouping=grouping), paper)


def column_side(column: Column, paper: str | None = None) -> Pick:
    """A column that is known to be there, and what the paper's is called."""
    return _pick(lambda _: column, paper)


def _pick(
    column: Callable[[Comparison], Column | None], paper: str | None = None, regime: str = "multi"
) -> Pick:
    def side(comparison: Comparison, split: str, recipe: RecipeChoice) -> Side | None:
        found = column(comparison)
        return None if found is None else _side(comparison, found, split, recipe)

    return Pick(side, None if paper is None else (paper, regime))


def _side(comparison: Comparison, column: Column, split: str, recipe: RecipeChoice) -> Side:
    entry = measured(comparison, column, split, recipe)
    label = full_label(column)
    if entry is None:
        return Side(label=label, seeds={}, why=f"{label} has no numbers here")
    if not comparison.is_ranked(entry):
        why = f"the best rate of {label} lies at an end of all that it could try"
        return Side(label=label, seeds={}, lr=entry.lr, edge=entry.edge, why=why)
    cautions = filter(None, (_untried(label, entry), _failed(label, entry)))
    return Side(
        label=label,
        seeds=entry.seed_means(),
        lr=entry.lr,
        edge=entry.edge,
        why="; ".join(cautions),
        failed=tuple(entry.failed_starts),
    )


def _failed(label: str, entry: ColumnResult) -> str:
    """Which seeds are missing because their start failed."""
    seeds = list(entry.failed_starts)
    plural = "s" if len(seeds) > 1 else ""
    return f"the start of {label} failed under seed{plural} {enumeration(seeds)}" if seeds else ""


def _untried(label: str, entry: ColumnResult) -> str:
    """That some rates of a tuned entry have no result: another might have been chosen."""
    known = sum(trial.error is None for trial in entry.trials)
    tried = len(entry.trials)
    return f"{known} of the {tried} rates of {label} have a result" if known < tried else ""


def _best_single_task_prompt(comparison: Comparison, split: str, recipe: RecipeChoice) -> Side | None:
    """Chosen by validation; under protocol ``paper``, which has none, by test, in its own favour."""
    columns = [c for method in SINGLE_TASK_PROMPTS if (c := find(comparison, method, "single")) is not None]
    if not columns:
        return None
    entries = [(c, entry) for c in columns if (entry := measured(comparison, c, split, recipe)) is not None]
    if not entries:
        return Side(label="the best single-task prompt", seeds={}, why="no single-task prompt has numbers")
    validated = all(entry.validation for _, entry in entries)

    def score(entry: ColumnResult) -> float:
        values = entry.validation if validated else entry.seed_means()
        return sum(values.values()) / len(values)

    column, _ = max(entries, key=lambda pair: score(pair[1]))
    by = "by validation" if validated else "by test, having no validation; the interval accounts for that"
    best = f"{full_label(column)} is the best of {enumeration([full_label(c) for c, _ in entries])} {by}"
    side = _side(comparison, column, split, recipe)
    among = () if validated else tuple(entry.seed_means() for _, entry in entries)
    return replace(side, why="; ".join(filter(None, (best, side.why))), among=among)


def _other_partitions(comparison: Comparison, split: str, recipe: RecipeChoice) -> Side | None:
    """The mean of the partitions that were not chosen, seed by seed, or else a column that has it."""
    found = pairings(comparison, split, recipe)
    others = {} if found is None else found.others()
    if others and found is not None:
        entries = [comparison.entry(name, split, recipe) for name in found.names]
        rates = {entry.lr for entry in entries if entry is not None}
        why = "" if found.complete else f"{len(found.accuracy)} of {found.possible} partitions measured"
        return Side(
            label="the other partitions", seeds=others, lr=rates.pop() if len(rates) == 1 else None, why=why
        )
    column = find_ablation(comparison, grouping="random")
    return None if column is None else _side(comparison, column, split, recipe)


GRADIENT = _pick(gradient_grouped, "gradient_grouping")
"""MmAP with groups from gradients."""

BEST_SINGLE_TASK_PROMPT = Pick(_best_single_task_prompt)
OTHER_PARTITIONS = Pick(_other_partitions, ("random_grouping", "multi"))
