"""Which of the paper's claims a comparison bears out: paired differences over seeds, with their intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from orchestrator.compare.comparison import Column, Comparison, Recipe
from orchestrator.reports.comparison.pairings import pairings
from orchestrator.reports.comparison.paper import printed_averages
from orchestrator.reports.comparison.roles import BEST_FIRST
from orchestrator.reports.comparison.sides import (
    Pick,
    Side,
    ablation_side,
    best_single_task_prompt,
    column_side,
    gradient_side,
    other_partitions,
    table_side,
)
from orchestrator.statistics.significance import selected_difference
from orchestrator.statistics.summary import Summary, paired_difference
from orchestrator.tables.words import enumeration, partition

Verdict = Literal["holds", "reversed", "undecided", "no data"]

MARGIN = 0.01
"""How far below full fine-tuning still counts as on par (one point of accuracy)."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim at one split.

    Attributes:
        topic: the claim of the paper it belongs to.
        statement: what would hold, in words.
        split, recipe: where it was tested; recipe None without numbers.
        better, worse: the side said to be better, and the other.
        difference: paired difference better − worse over the seeds both have (fraction).
        threshold: the difference it has to exceed: zero, or minus `MARGIN` for "on par".
        paper: the paper's own difference by (dataset, split), where it prints both sides.
        notes: what must be said beside it.
    """

    topic: str
    statement: str
    split: str
    recipe: Recipe | None
    better: Side
    worse: Side
    difference: Summary | None
    threshold: float = 0.0
    paper: Mapping[tuple[str, str], float]
    notes: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """The verdict, marked where it rests on the shared rate."""
        return f"{self.verdict} (shared rate)" if self.recipe == "shared" else self.verdict

    @property
    def verdict(self) -> Verdict:
        """Where the 95 % interval of the difference lies: above, below or across the threshold."""
        if self.difference is None:
            return "no data"
        if self.difference.low is None or self.difference.high is None:
            return "undecided"
        if self.difference.low > self.threshold:
            return "holds"
        return "reversed" if self.difference.high < self.threshold else "undecided"


@dataclass(frozen=True)
class _Statement:
    topic: str
    text: str
    better: Pick
    worse: Pick
    threshold: float = 0.0
    paper: tuple[tuple[str, str], tuple[str, str]] | None = None
    note: str = ""


def claims(comparison: Comparison) -> list[Claim]:
    """The paper's claims at every split of a comparison, by topic and statement.

    Each is tested on tuned results where there are some. A claim falls back to the shared recipe, and says
    so, where one of its sides was not tuned: the two sides of a difference always come from the same recipe.
    Claims about columns that are not part of the comparison are left out.
    """
    found: list[Claim] = []
    for split in comparison.splits:
        statements = [*_statements(comparison), *_pairing_statements(comparison, split)]
        found += filter(None, (_test(statement, comparison, split) for statement in statements))
    topics = list(dict.fromkeys(claim.topic for claim in found))
    texts = list(dict.fromkeys(claim.statement for claim in found))
    return sorted(found, key=lambda claim: (topics.index(claim.topic), texts.index(claim.statement)))


def _statements(comparison: Comparison) -> list[_Statement]:
    mmap = table_side("mmap", "multi")
    published = ("mmap", "multi")
    both = "Multi-task training beats single-task training"
    found = [
        _Statement(
            both,
            "{better} beats {worse}",
            table_side(method, "multi"),
            table_side(method, "single"),
            paper=((method, "multi"), (method, "single")),
        )
        for method in ("coop", "vpt", "maple", "full_ft")
    ]
    found.append(_Statement(both, "MmAP beats the best single-task prompt", mmap, best_single_task_prompt))
    found += [
        _Statement(
            "MmAP beats the other parameter-efficient multi-task methods",
            "{better} beats {worse}",
            mmap,
            table_side(method, "multi"),
            paper=(published, (method, "multi")),
        )
        for method in ("maple", "coop", "vpt", "clip_adapter", "bitfit")
    ]
    found.append(
        _Statement(
            "MmAP is on par with multi-task full fine-tuning",
            "{better} is within one point of {worse}",
            mmap,
            table_side("full_ft", "multi"),
            threshold=-MARGIN,
            paper=(published, ("full_ft", "multi")),
        )
    )
    grouped = "Grouping by gradients helps"
    gradient = ("gradient_grouping", "multi")
    found += [
        _Statement(
            grouped,
            "gradient grouping beats the mean of the other partitions of its sizes",
            gradient_side,
            other_partitions,
            paper=(gradient, ("random_grouping", "multi")),
        ),
        _Statement(
            grouped,
            "gradient grouping beats all tasks in one group",
            gradient_side,
            ablation_side(grouping="single"),
            paper=(gradient, ("one_group", "multi")),
        ),
    ]
    for modules in ("task", "group"):
        words = {"task": "task-specific prompts alone", "group": "group-shared prompts alone"}[modules]
        for column in _only(comparison, modules):
            found.append(
                _Statement(
                    "Group-shared and task-specific prompts together beat either alone",
                    f"both beat {words}, {_tokens(column)} tokens a tower",
                    gradient_side,
                    column_side(column),
                    paper=(gradient, (f"{modules}_only", "multi")),
                )
            )
    generator = "MmAP beats other ways to make both prompts"
    found += [
        _Statement(generator, "MmAP beats prompts made by an MLP", mmap, ablation_side(method="mlp")),
        _Statement(generator, "MmAP beats joint prompts", mmap, ablation_side(method="joint")),
        _Statement(
            generator,
            "prompts made by an MLP beat joint prompts",
            ablation_side(method="mlp"),
            ablation_side(method="joint"),
        ),
    ]
    return found


def _pairing_statements(comparison: Comparison, split: str) -> list[_Statement]:
    """Gradient grouping against each partition of its sizes, except one that every seed chose."""
    found = next(filter(None, (pairings(comparison, split, recipe) for recipe in BEST_FIRST)), None)
    if found is None:
        return []
    statements = []
    for column in (comparison.column(name) for name in found.names):
        alike = [choice.seed for choice in found.choices if choice.partition == column.partition]
        if len(alike) < len(found.choices):
            statements.append(
                _Statement(
                    "Grouping by gradients helps",
                    f"gradient grouping beats {partition(column.partition, comparison.tasks)}",
                    gradient_side,
                    column_side(column),
                    note=f"which is what the gradients chose for seed {enumeration(alike)}" if alike else "",
                )
            )
    return statements


def _test(statement: _Statement, comparison: Comparison, split: str) -> Claim | None:
    tried = []
    recipe: Recipe | None = None
    for candidate in BEST_FIRST:
        better = statement.better(comparison, split, candidate)
        worse = statement.worse(comparison, split, candidate)
        if better is None or worse is None:
            return None
        tried.append((better, worse))
        if better.seeds and worse.seeds:
            recipe = candidate
            break
    else:
        better, worse = tried[0]
    difference = _difference(better, worse) if recipe else None
    notes = [text for text in (statement.note, better.why, worse.why) if text]
    if recipe == "shared":
        untuned = [side.label for side in tried[0] if not side.seeds]
        notes.insert(
            0, f"shared recipe only: no tuned result for {enumeration(list(dict.fromkeys(untuned)))}"
        )
    ends = [side.label for side in (better, worse) if side.edge]
    if ends and recipe == "tuned":
        notes.append(f"the rate of {enumeration(ends)} is at the end of the range")
    if difference is not None and difference.n == 1:
        notes.append("one seed: no interval")
    elif difference is not None and difference.n < len(comparison.seeds):
        notes.append(f"{difference.n} of {len(comparison.seeds)} seeds")
    return Claim(
        topic=statement.topic,
        statement=statement.text.format(better=better.label, worse=worse.label),
        split=split,
        recipe=recipe,
        better=better,
        worse=worse,
        difference=difference,
        threshold=statement.threshold,
        paper=_paper_difference(statement),
        notes=tuple(dict.fromkeys(notes)),
    )


def _difference(better: Side, worse: Side) -> Summary | None:
    """Paired. Claims are fixed before anything is measured: only a side that test selected is corrected."""
    if len(worse.among) > 1:
        return selected_difference(better.seeds, worse.seeds, worse.among)
    return paired_difference(better.seeds, worse.seeds)


def _paper_difference(statement: _Statement) -> dict[tuple[str, str], float]:
    if statement.paper is None:
        return {}
    better, worse = (printed_averages(*side) for side in statement.paper)
    return {where: better[where] - worse[where] for where in better if where in worse}


def _only(comparison: Comparison, modules: str) -> list[Column]:
    return [
        c
        for c in comparison.columns
        if c.section == "ablation" and c.method == "mmap" and c.settings.get("modules") == modules
    ]


def _tokens(column: Column) -> int | str:
    return column.settings.get("prompt_length", "?")  # type: ignore[no-any-return]
