"""The report on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.compare.comparison import Comparison
from orchestrator.reports.comparison import grids, notes, numbers
from orchestrator.reports.comparison.claims import Claim
from orchestrator.reports.comparison.contents import Contents
from orchestrator.reports.comparison.evidence_grids import beside, glance
from orchestrator.reports.comparison.grid import Grid, Value
from orchestrator.reports.comparison.terminal_methods import method_block

NARROW = 60
"""Widths below this are treated as this one."""

STYLES = {1: "bold", 2: "underline"}
VERDICTS = {"holds": "green", "reversed": "red", "undecided": "yellow", "no data": "dim"}


def show(comparison: Comparison, console: Console) -> None:
    """Print a comparison: method tables of every split, ablations, affinity and claims."""
    contents = Contents(comparison)
    width = max(NARROW, console.width)
    if comparison.dataset == "symbols":
        console.print(Text(notes.SYMBOLS.replace("`", ""), "italic"))
        console.print()
    for table in contents.tables:
        console.print(Text(notes.title(table), "bold"))
        console.print(Text(notes.budget(table)))
        console.print()
        console.print(method_block(table, width))
        _notes(notes.remarks(table), console)
    if contents.tables:
        _notes(["▸ best, ▹ second best of a row.", *notes.legend(contents.tables)], console)
    _print([beside(found, table) for table, found in contents.beside], console)
    _print(contents.ablation_grids(brief=True), console)
    if comparison.affinities:
        _print([grids.affinities(comparison.affinities, comparison)], console)
    if contents.claims:
        _show_claims(contents, console)


def _show_claims(contents: Contents, console: Console) -> None:
    """Every claim with its interval; of several splits the verdicts alone, side by side."""
    comparison = contents.comparison
    counts = ", ".join(f"{n} {verdict}" for verdict, n in contents.verdicts().items())
    if len(comparison.splits) > 1:
        _print([glance(contents.claims, comparison)], console)
        _notes([f"{counts}; intervals and rates: claims.md."], console)
        return
    console.print(Text(f"{comparison.dataset}, {comparison.splits[0]}: the paper's claims", "bold"))
    console.print(_claims(contents.claims))
    _notes(
        [
            f"{counts}. Paired differences in points over the seeds with their 95 % t-intervals, of tuned "
            "results unless marked. Undecided does not mean equal."
        ],
        console,
    )


def _print(tables: Sequence[Grid], console: Console) -> None:
    """Tables of one kind, their common legend below the last."""
    for table in tables:
        console.print(Text(table.title, "bold"))
        console.print(_table(table))
        _notes(table.notes, console)
    legend = dict.fromkeys(line for table in tables for line in table.legend)
    if legend:
        _notes(legend, console)


def _notes(lines: Iterable[str], console: Console) -> None:
    for line in lines:
        console.print(Text(line, "dim"))
    console.print()


def _table(grid: Grid) -> RenderableType:
    table = _frame()
    for heading, side in zip(grid.header, grid.align, strict=True):
        table.add_column(heading, justify="right" if side == "r" else "left", overflow="fold")
    for cells in grid.rows:
        table.add_row(*(_cell(cell) for cell in cells))
    return table


def _cell(value: Value) -> Text:
    return Text(value.text, STYLES.get(value.place or 0, ""))


def _claims(found: list[Claim]) -> RenderableType:
    """The columns a screen has room for; claims.md has the others."""
    table = _frame()
    table.add_column("claim", ratio=1, min_width=24)
    table.add_column("verdict", no_wrap=True)
    table.add_column("points", justify="right", no_wrap=True)
    table.add_column("95 % interval", justify="right", no_wrap=True)
    table.add_column("rates", no_wrap=True)
    topic = found[0].topic
    for claim in found:
        if claim.topic != topic:
            topic = claim.topic
            table.add_section()
        table.add_row(
            Text(claim.statement),
            Text(claim.words, VERDICTS[claim.verdict]),
            numbers.signed(claim.difference.mean) if claim.difference else numbers.NONE,
            numbers.interval(claim.difference),
            f"{numbers.rate(claim.better.lr, claim.better.edge)} / "
            f"{numbers.rate(claim.worse.lr, claim.worse.edge)}",
        )
    return table


def _frame() -> Table:
    return Table(
        box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold", show_edge=False
    )
