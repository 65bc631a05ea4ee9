"""Ablations, partitions, affinities and the paper's numbers beside ours, as tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mmap_model.configuration import Partition
from orchestrator.compare.comparison import Affinity, Comparison
from orchestrator.reports.comparison.ablation import ORDER, Ablation, AblationRow
from orchestrator.reports.comparison.method_table import AVERAGE, MethodTable
from orchestrator.reports.comparison.methods import MISSING
from orchestrator.reports.comparison.pairings import Pairings
from orchestrator.reports.comparison.paper import Beside, paper_split
from orchestrator.reports.comparison.roles import full_label
from orchestrator.statistics.summary import Summary
from orchestrator.tables import Table, TableCell, label, number, row, words
from orchestrator.tables.model import NONE, Content

TOKENS = "Tokens: prompts that each tower sees."
FROM_MMAP = (
    "From MmAP: paired difference over the seeds to MmAP with gradient grouping, with its 95 % t-interval. "
    "That row was named in advance; each interval stands by itself, uncorrected for their number."
)
RANDOM = "Random grouping: the mean of the other partitions of the same sizes, seed by seed."
RECIPES = {
    "shared": "shared learning rate",
    "published": "published recipes",
    "tuned": "tuned learning rates",
}
"""A recipe as an end of a title."""


def ablations(found: Ablation, *, brief: bool = False) -> list[Table]:
    """Table 3, figure 4 and the partitions; in brief without the tasks, as the paper's."""
    tasks = () if brief else found.comparison.tasks
    tables = [
        _ablation(found, rows, what, tasks)
        for rows, what in (
            (found.framework, "prompts and groups (Table 3)"),
            (found.generators, "what makes the prompts of both towers (figure 4)"),
        )
        if rows
    ]
    return tables + ([partitions(found.pairings, found.comparison)] if found.pairings is not None else [])


def _ablation(found: Ablation, rows: Sequence[AblationRow], what: str, tasks: Sequence[str]) -> Table:
    best = max((line.average.mean for line in rows if line.average), default=None)

    def accuracy(task: str) -> Callable[[AblationRow], Content]:
        def said(line: AblationRow) -> Content:
            values = list(line.tasks.get(task, {}).values())
            return TableCell.accuracy(sum(values) / len(values)) if values else None

        return said

    def average(line: AblationRow) -> TableCell:
        mean = line.average
        if mean is None:
            return TableCell(MISSING)
        return TableCell.accuracy(mean.mean, mean.std, "best" if mean.mean == best else None)

    untuned = (
        ["No row of this ablation was tuned."] if found.recipe == "shared" and not _has_tuned(found) else []
    )
    missing = [f"No numbers for {line.label}: {line.error.rstrip('.')}." for line in rows if line.error]
    return Table.of(
        [
            (label("Variant"), lambda line: line.label),
            (number("Tokens"), lambda line: line.tokens or None),
            (number("Parameters"), lambda line: words.integer(line.parameters or None)),
            *((number(task), accuracy(task)) for task in tasks),
            (number(AVERAGE), average),
            (number("From MmAP"), lambda line: words.signed(line.loss.mean) if line.loss else None),
            (number("95 % interval"), lambda line: interval(line.loss)),
            (number("Rate"), lambda line: words.rate(line.entry.lr, line.entry.edge) if line.entry else None),
        ],
        rows,
        title=f"{found.comparison.dataset}, {found.split}: {what}, {RECIPES[found.recipe]}",
        notes=[*untuned, *missing],
        legend=[TOKENS, FROM_MMAP, *([RANDOM] if any(r.order == ORDER["random"] for r in rows) else [])],
    )


def partitions(found: Pairings, comparison: Comparison) -> Table:
    """All partitions of the sizes that the gradients chose, by test accuracy."""
    seeds = list(dict.fromkeys(choice.seed for choice in found.choices))
    chosen = {choice.seed: choice.partition for choice in found.choices}

    def accuracy(partition: Partition, seed: str) -> TableCell:
        value = found.accuracy[partition].get(seed)
        return TableCell(
            words.accuracy(value), value=value, mark="←" if chosen.get(seed) == partition else ""
        )

    lines = [
        row(
            str(place),
            words.partition(partition, comparison.tasks),
            *(accuracy(partition, seed) for seed in seeds),
            TableCell.accuracy(mean.mean, mean.std),
        )
        for place, (partition, mean) in enumerate(found.ranked(), start=1)
    ]
    ranks = (f"{choice.rank} of {choice.among}" for choice in found.choices)
    regrets = (f"{100 * choice.regret:.2f}" for choice in found.choices)
    few = f"{len(found.accuracy)} of {found.possible} such partitions were measured."
    return Table(
        title=f"{comparison.dataset}, {found.split}: every partition of the same sizes, "
        f"{RECIPES[found.recipe]}",
        columns=(number(""), label("Partition"), *(number(f"seed {seed}") for seed in seeds), number("Mean")),
        blocks=(
            (
                *lines,
                row("", "rank of the choice", *ranks, f"{found.mean_rank:.1f}"),
                row("", "regret in points", *regrets, f"{100 * found.mean_regret:.2f}"),
            ),
        ),
        notes=() if found.complete else (few,),
        legend=(
            "← chosen by the gradients of that seed's probe. Rank and regret compare it with the others on "
            f"the same test images; a random choice has mean rank {found.chance_rank:.1f}.",
        ),
    )


def affinities(found: Sequence[Affinity], comparison: Comparison) -> Table:
    """What each seed's gradients chose, how clearly and how steadily."""
    said = dict.fromkeys(note for affinity in found for note in affinity.notes)
    return Table.of(
        [
            (label("Split"), lambda affinity: affinity.split),
            (label("Seed"), lambda affinity: affinity.seed),
            (label("Chosen"), lambda affinity: words.partition(affinity.partition, comparison.tasks)),
            (label("Second best"), lambda affinity: words.partition(affinity.second, comparison.tasks)),
            (number("Margin"), relative_margin),
            (number("Snapshots"), lambda affinity: _whole_percent(affinity.agreement)),
            (number("Resamples"), lambda affinity: _whole_percent(affinity.bootstrap)),
        ],
        found,
        title=f"{comparison.dataset}: groups chosen from the gradients (eq. 8)",
        notes=["Of the probe: " + "; ".join(said) + "."] if said else (),
        legend=[
            "Margin: by how much the chosen partition's score exceeds the second best's. Snapshots and "
            "Resamples: the share of snapshots, and of bootstrap samples of them, with the same choice."
        ],
    )


def beside(found: Sequence[Beside], table: MethodTable) -> Table:
    """Ours, the paper's and the difference of every number that both have."""
    tasks = [name for name in (*table.comparison.tasks, AVERAGE) if any(pair.task == name for pair in found)]
    pairs = {(pair.column.name, pair.task): pair for pair in found}
    columns = {pair.column.name: pair.column for pair in found}

    def numbers(task: str) -> Callable[[str], Content]:
        def said(name: str) -> Content:
            pair = pairs.get((name, task))
            if pair is None:
                return None
            theirs = f"{pair.printed.value:.1f}{_dagger(pair)}"
            return f"{words.accuracy(pair.ours.mean)}/{theirs} ({words.signed(pair.difference)})"

        return said

    known = dict.fromkeys(
        f"{_dagger(pair)} {full_label(pair.column)}, {pair.task}: {pair.printed.note}.".lstrip()
        for pair in found
        if pair.printed.note
    )
    protocol = (
        "Ours keeps validation images apart and tests on the same images for every split; the paper tests on "
        "all that is not trained on (protocol paper)."
    )
    split = paper_split(table.comparison.dataset, table.split)
    return Table.of(
        [
            (label("Method"), lambda name: full_label(columns[name])),
            *((number(task), numbers(task)) for task in tasks),
        ],
        columns,
        title=f"{table.comparison.dataset}, {table.split}: ours/the paper's {split} split (difference), "
        + RECIPES[table.recipe],
        notes=known,
        legend=[] if table.comparison.protocol == "paper" else [protocol],
    )


def relative_margin(affinity: Affinity) -> str:
    """The margin in per cent of the chosen score's size, or as it is where that is unknown."""
    if affinity.margin is None:
        return NONE
    if not affinity.score:
        return f"{affinity.margin:.2g}"
    return f"{100 * affinity.margin / abs(affinity.score):.0f}%"


def interval(summary: Summary | None, digits: int = 1) -> str:
    """``−0.4 to +1.9`` points; a dash if one seed leaves it open."""
    return NONE if summary is None else words.interval(summary.low, summary.high, digits)


def _dagger(pair: Beside) -> str:
    return "" if pair.printed.corrected_mean is None else "†"


def _has_tuned(found: Ablation) -> bool:
    names = {c.name for c in found.comparison.columns if c.section == "ablation"}
    return any(e.recipe == "tuned" and e.column in names for e in found.comparison.entries)


def _whole_percent(value: float | None) -> str:
    return NONE if value is None else f"{100 * value:.0f}%"
