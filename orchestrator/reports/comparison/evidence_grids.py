"""Claims, and the paper's numbers beside ours, as grids of text."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.compare.comparison import Comparison
from orchestrator.reports.comparison import numbers
from orchestrator.reports.comparison.claims import Claim
from orchestrator.reports.comparison.grid import Grid, Value, row
from orchestrator.reports.comparison.grids import recipe_words
from orchestrator.reports.comparison.method_table import AVERAGE, MethodTable
from orchestrator.reports.comparison.paper import Beside, paper_split
from orchestrator.reports.comparison.roles import full_label
from orchestrator.reports.comparison.sides import Side


def claim_grid(found: Sequence[Claim], comparison: Comparison) -> Grid:
    """One line per claim and split."""

    def side(side: Side) -> str:
        return numbers.rate(side.lr, side.edge)

    def cells(claim: Claim) -> tuple[Value, ...]:
        difference = claim.difference
        return row(
            claim.statement,
            claim.split,
            Value(claim.words, 1 if claim.verdict in ("holds", "reversed") else None),
            numbers.signed(difference.mean, 2) if difference else numbers.NONE,
            numbers.interval(difference, 2),
            str(difference.n) if difference else numbers.NONE,
            f"{side(claim.better)} / {side(claim.worse)}",
            claim.recipe or numbers.NONE,
            paper_range(claim),
            "; ".join(claim.notes),
        )

    return Grid(
        title=f"{comparison.dataset}: the paper's claims",
        header=(
            *("Claim", "Split", "Verdict", "Difference", "95 % interval", "n", "Rates", "Recipe"),
            *("In the paper", "Notes"),
        ),
        rows=tuple(cells(claim) for claim in found),
        align="lllrrrllll",
    )


def glance(found: Sequence[Claim], comparison: Comparison) -> Grid:
    """Every claim's verdict and difference, splits side by side."""
    verdicts = {(claim.statement, claim.split): claim for claim in found}

    def cell(statement: str, split: str) -> Value:
        claim = verdicts.get((statement, split))
        if claim is None:
            return Value(numbers.NONE)
        points = f" {numbers.signed(claim.difference.mean)}" if claim.difference else ""
        mark = "*" if claim.recipe == "shared" else ""
        decided = claim.verdict in ("holds", "reversed")
        return Value(f"{claim.verdict}{mark}{points}", 1 if decided else None)

    shared = any(claim.recipe == "shared" for claim in found)
    return Grid(
        title=f"{comparison.dataset}: the paper's claims, differences in points",
        header=("Claim", *comparison.splits),
        rows=tuple(
            row(statement, *(cell(statement, split) for split in comparison.splits))
            for statement in dict.fromkeys(claim.statement for claim in found)
        ),
        align="l" + "l" * len(comparison.splits),
        notes=("* at the shared rate: one of the two was not tuned.",) if shared else (),
    )


def beside(found: Sequence[Beside], table: MethodTable) -> Grid:
    """Ours, the paper's and the difference of every number that both have."""
    tasks = [name for name in (*table.comparison.tasks, AVERAGE) if any(pair.task == name for pair in found)]
    pairs = {(pair.column.name, pair.task): pair for pair in found}
    columns = {pair.column.name: pair.column for pair in found}

    def cell(name: str, task: str) -> str:
        pair = pairs.get((name, task))
        if pair is None:
            return numbers.NONE
        mark = "†" if pair.printed.corrected_mean is not None else ""
        ours, theirs = f"{100 * pair.ours.mean:.1f}", f"{pair.printed.value:.1f}{mark}"
        return f"{ours}/{theirs} ({numbers.signed(pair.difference)})"

    known = dict.fromkeys(
        f"{'† ' if pair.printed.corrected_mean is not None else ''}{full_label(pair.column)}, {pair.task}: "
        f"{pair.printed.note}."
        for pair in found
        if pair.printed.note
    )
    protocol = (
        "Ours keeps validation images apart and tests on the same images for every split; the paper tests on "
        "all that is not trained on (protocol paper)."
    )
    split = paper_split(table.comparison.dataset, table.split)
    return Grid(
        title=f"{table.comparison.dataset}, {table.split}: ours/the paper's {split} split (difference), "
        + recipe_words(table.recipe),
        header=("Method", *tasks),
        rows=tuple(
            row(full_label(column), *(cell(name, task) for task in tasks)) for name, column in columns.items()
        ),
        align="l" + "r" * len(tasks),
        notes=tuple(known),
        legend=() if table.comparison.protocol == "paper" else (protocol,),
    )


def paper_range(claim: Claim) -> str:
    """The paper's own differences on its benchmarks: ``+0.8 to +1.4``."""
    values = sorted(claim.paper.values())
    if not values:
        return numbers.NONE
    low, high = numbers.signed(values[0]), numbers.signed(values[-1])
    return low if low == high else f"{low} to {high}"
