"""Which of the paper's claims a comparison bears out: paired differences over seeds, with their intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from orchestrator.compare.comparison import Column, Comparison, RecipeChoice
from orchestrator.reports.comparison.pairings import pairings
from orchestrator.reports.comparison.paper import printed_averages
from orchestrator.reports.comparison.roles import BEST_FIRST, PAPER, gradient_grouped, table_columns
from orchestrator.reports.comparison.sides import (
    BEST_SINGLE_TASK_PROMPT,
    GRADIENT,
    OTHER_PARTITIONS,
    Pick,
    Side,
    ablation_side,
    column_side,
    table_side,
)
from orchestrator.statistics.significance import selected_difference
from orchestrator.statistics.summary import Summary, paired_difference
from orchestrator.tables.words import enumeration, partition

ClaimVerdict = Literal["holds", "reversed", "undecided", "no data"]

GROUPING = "Grouping by gradients helps"
NEWER = "Beyond the paper: MmAP beside methods that it did not compare with"
GROUPS = "Beyond the paper: groups from gradients behind other methods"
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
    recipe: RecipeChoice | None
    better: Side
    worse: Side
    difference: Summary | None
    threshold: float = 0.0
    paper: Mapping[tuple[str, str], float]
    notes: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """The verdict, marked where it rests on the shared rate."""
        marks = {"shared": " (shared rate)", "published": " (published recipe)"}
        return f"{self.verdict}{marks.get(self.recipe or '', '')}"

    @property
    def verdict(self) -> ClaimVerdict:
        """Where the 95 % interval of the difference lies: above, below or across the threshold.

        A side some of whose starts failed wins nothing: its other starts are those that went well.
        """
        if self.difference is None:
            return "no data"
        if self.difference.low is None or self.difference.high is None:
            return "undecided"
        if self.difference.low > self.threshold:
            return "undecided" if self.better.failed else "holds"
        if self.difference.high < self.threshold:
            return "undecided" if self.worse.failed else "reversed"
        return "undecided"


@dataclass(frozen=True)
class _Statement:
    topic: str
    better: Pick
    worse: Pick
    text: str = "{better} beats {worse}"
    threshold: float = 0.0
    note: str = ""

    @property
    def paper(self) -> dict[tuple[str, str], float]:
        """The paper's difference where it prints both sides."""
        if self.better.paper is None or self.worse.paper is None:
            return {}
        better, worse = printed_averages(*self.better.paper), printed_averages(*self.worse.paper)
        return {where: better[where] - worse[where] for where in better if where in worse}


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
    mmap, one_group = table_side("mmap"), ablation_side(grouping="single", paper="one_group")
    mlp, joint = ablation_side(method="mlp"), ablation_side(method="joint")
    both = "Multi-task training beats single-task training"
    efficient = "MmAP beats the other parameter-efficient multi-task methods"
    on_par = "MmAP is on par with multi-task full fine-tuning"
    together = "Group-shared and task-specific prompts together beat either alone"
    generator = "MmAP beats other ways to make both prompts"
    others = "gradient grouping beats the mean of the other partitions of its sizes"
    margin = "{better} is within one point of {worse}"
    return [
        *(
            _Statement(both, table_side(method), table_side(method, "single"))
            for method in ("coop", "vpt", "maple", "full_ft")
        ),
        _Statement(both, mmap, BEST_SINGLE_TASK_PROMPT, "MmAP beats the best single-task prompt"),
        *(
            _Statement(efficient, mmap, table_side(method))
            for method in ("maple", "coop", "vpt", "clip_adapter", "bitfit")
        ),
        _Statement(on_par, mmap, table_side("full_ft"), margin, threshold=-MARGIN),
        _Statement(GROUPING, GRADIENT, OTHER_PARTITIONS, others),
        _Statement(GROUPING, GRADIENT, one_group, "gradient grouping beats all tasks in one group"),
        *(
            _Statement(together, GRADIENT, column_side(column, f"{modules}_only"), f"both beat {words}")
            for column, modules, words in _alone(comparison)
        ),
        _Statement(generator, mmap, mlp, "MmAP beats prompts made by an MLP"),
        _Statement(generator, mmap, joint, "MmAP beats joint prompts"),
        _Statement(generator, mlp, joint, "prompts made by an MLP beat joint prompts"),
        *_beyond(comparison),
    ]


def _beyond(comparison: Comparison) -> Iterator[_Statement]:
    """What the paper did not ask: MmAP beside newer methods, and groups put behind other methods."""
    tables = table_columns(comparison)
    framework = gradient_grouped(comparison)
    for column in tables:
        if framework is not None and column.method not in PAPER and column.regime in ("single", "multi"):
            yield _Statement(NEWER, column_side(framework), column_side(column))
    for column in tables:
        if column.regime != "grouped" or column.grouping != "gradient":
            continue
        for other in tables:
            same = other.method == column.method
            if same and (other.regime == "multi" or other.grouping == "single"):
                yield _Statement(GROUPS, column_side(column), column_side(other))


def _alone(comparison: Comparison) -> Iterator[tuple[Column, str, str]]:
    """Columns of MmAP with one kind of prompts: which, and in words."""
    for modules, words in (("task", "task-specific"), ("group", "group-shared")):
        for column in comparison.columns:
            settings = column.settings
            if (column.section, column.method, settings.get("modules")) == ("ablation", "mmap", modules):
                tokens = settings.get("prompt_length", "?")
                yield column, modules, f"{words} prompts alone, {tokens} tokens a tower"


def _pairing_statements(comparison: Comparison, split: str) -> list[_Statement]:
    """Gradient grouping against each partition of its sizes, except one that every seed chose."""
    found = next(filter(None, (pairings(comparison, split, recipe) for recipe in BEST_FIRST)), None)
    if found is None:
        return []
    statements = []
    for column in (comparison.column(name) for name in found.names):
        alike = [choice.seed for choice in found.choices if choice.partition == column.partition]
        if len(alike) < len(found.choices):
            text = f"gradient grouping beats {partition(column.partition, comparison.tasks)}"
            note = f"which is what the gradients chose for seed {enumeration(alike)}" if alike else ""
            statements.append(_Statement(GROUPING, GRADIENT, column_side(column), text, note=note))
    return statements


def _test(statement: _Statement, comparison: Comparison, split: str) -> Claim | None:
    tried = []
    recipe: RecipeChoice | None = None
    for candidate in BEST_FIRST:
        better = statement.better.find(comparison, split, candidate)
        worse = statement.worse.find(comparison, split, candidate)
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
        statement=statement.text.replace("{better}", better.label).replace("{worse}", worse.label),
        split=split,
        recipe=recipe,
        better=better,
        worse=worse,
        difference=difference,
        threshold=statement.threshold,
        paper=statement.paper,
        notes=tuple(dict.fromkeys(notes)),
    )


def _difference(better: Side, worse: Side) -> Summary | None:
    """Paired. Claims are fixed before anything is measured: only a side that test selected is corrected."""
    if len(worse.among) > 1:
        return selected_difference(better.seeds, worse.seeds, worse.among)
    return paired_difference(better.seeds, worse.seeds)
