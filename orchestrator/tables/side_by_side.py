"""A narrow table on a terminal: all columns side by side, or in parts where they do not fit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from rich.cells import cell_len
from rich.text import Text

from orchestrator.tables.model import NONE, Table, TableCell, TableColumn
from orchestrator.tables.words import printable

MARKS = {"best": "▸", "second": "▹"}
"""Before the best and second-best number of a row, in the space between two columns."""

LOOKS = {"best": "bold", "second": "underline", "failed": "red"}

SPARE = 3
"""Further room between two columns at most."""


def side_by_side(table: Table, width: int) -> Iterable[Text]:
    """The table within ``width`` columns (at least 40), its columns in as many parts as that takes.

    Headings of groups stand over their columns, and parts are cut between groups where that helps. Rows
    in which a part has nothing are left out.
    """
    label = max(cell_len(row[0].text) for row in table.rows)
    sizes = [
        max(
            1 + max(map(cell_len, _heading(column.heading))),
            *(1 + cell_len(row[i].close) for row in table.rows),
        )
        for i, column in enumerate(table.columns)
    ]
    yield Text("")
    for n, part in enumerate(_parts(table.columns, sizes, width - label)):
        if n:
            yield Text("")
        gap = max(0, min(SPARE, (width - label - sum(sizes[i] for i in part)) // len(part)))
        yield from _lines(table, label, {i: sizes[i] + gap for i in part})


def _parts(columns: Sequence[TableColumn], sizes: Sequence[int], width: int) -> Sequence[Sequence[int]]:
    """All columns if they fit, else cut before the last group, else wherever a line is full."""
    numbers = range(1, len(columns))
    if sum(sizes[1:]) <= width:
        return [numbers]
    last = columns[-1].group
    parts: list[list[int]] = []
    for _, members in groupby(numbers, key=lambda i: columns[i].group == last):
        used = width + 1
        for i in members:
            if used + sizes[i] > width:
                parts.append([])
                used = 0
            parts[-1].append(i)
            used += sizes[i]
    return parts


def _lines(table: Table, label: int, sizes: dict[int, int]) -> Iterable[Text]:
    """One part: headings, then the blocks with a rule before each."""
    yield _groups(table.columns, label, sizes)
    upper, lower = zip(*(_heading(table.columns[i].heading) for i in sizes), strict=True)
    for heading in (upper, lower) if any(upper) else (lower,):
        yield Text(" " * label) + _joined([Text(text, "bold") for text in heading], sizes.values())
    for block in table.blocks:
        yield Text("─" * (label + sum(sizes.values())), "dim")
        for row in block:
            if any(row[i].text not in ("", NONE) for i in sizes):
                yield Text(printable(row[0].text).ljust(label)) + _joined(
                    [_cell(row[i]) for i in sizes], sizes.values()
                )


def _joined(cells: Iterable[Text], sizes: Iterable[int]) -> Text:
    line = Text(no_wrap=True)
    for cell, size in zip(cells, sizes, strict=True):
        line.append(" " * (size - cell_len(cell.plain)))
        line.append_text(cell)
    return line


def _groups(columns: Sequence[TableColumn], label: int, sizes: dict[int, int]) -> Text:
    """``── Single-task ──`` over the columns of each group."""
    line = Text(" " * label, "dim")
    for name, members in groupby(sizes, key=lambda i: columns[i].group):
        room = sum(sizes[i] for i in members) - 1
        line.append(" " + (f" {name} ".center(room, "─") if name else " " * room))
    return line


def _heading(heading: str) -> tuple[str, str]:
    """Two lines: long headings break after their hyphen or space."""
    heading = printable(heading)
    for mark in ("-", " "):
        head, found, tail = heading.partition(mark)
        if found and len(heading) > 8:
            return head + mark.strip(), tail
    return "", heading


def _cell(cell: TableCell) -> Text:
    return Text(MARKS.get(cell.look or "", "")) + Text(printable(cell.close), LOOKS.get(cell.look or "", ""))
