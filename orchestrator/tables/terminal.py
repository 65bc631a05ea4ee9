"""Documents on a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich import box
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from orchestrator.tables.document import (
    Block,
    Bullets,
    Figure,
    Paragraph,
    Section,
    Sentence,
    Span,
    plain,
    spans,
)
from orchestrator.tables.model import Table, TableCell
from orchestrator.tables.side_by_side import MARKS, side_by_side
from orchestrator.tables.words import printable

WIDE = 96
"""Columns below which spare columns are left out and others move together."""

NARROW = 60
"""Widths below this are treated as this one."""

LOOKS = {
    "best": "bold",
    "second": "underline",
    "strong": "bold",
    "good": "green",
    "bad": "red",
    "open": "yellow",
    "failed": "red",
    "faint": "dim",
}


def render(document: Section, width: int) -> RenderableType:
    """A document within that many columns, an empty line between two blocks."""
    return Group(*_section(document, max(NARROW, width)))


def _section(section: Section, width: int) -> Iterable[RenderableType]:
    apart = False
    if section.title:
        yield Text(printable(section.title), "bold")
    for block in section.blocks:
        if apart:
            yield Text("")
        yield from _block(block, width)
        apart = not _ends_with_air(block)


def _block(block: Block, width: int) -> Iterable[RenderableType]:
    match block:
        case Section():
            yield from _section(block, width)
        case Table():
            yield from _heading(block, width)
            yield from side_by_side(block, width) if block.narrow else [_grid(block, width)]
            yield from (Text(printable(note), "dim") for note in block.notes)
        case Paragraph(text, caution):
            yield _sentence(text, "italic" if caution else "")
        case Bullets(items):
            yield from (_sentence(item, "" if _is_command(item) else "dim") for item in items)
        case Figure():
            pass


def _sentence(sentence: Sentence, style: str) -> Text:
    """A command stays on one line, however long: copied it runs as it is."""
    text = Text(printable(plain(sentence)), style)
    if _is_command(sentence):
        text.no_wrap, text.overflow = True, "ignore"
    return text


def _is_command(sentence: Sentence) -> bool:
    return any(isinstance(span, Span) and span.kind == "command" for span in spans(sentence))


def _ends_with_air(block: Block) -> bool:
    """Whether what it prints ends with an empty line already."""
    if isinstance(block, Section):
        return bool(block.blocks) and _ends_with_air(block.blocks[-1])
    return isinstance(block, Figure) or (
        isinstance(block, Table) and block.headed and not block.narrow and not block.notes
    )


def _heading(table: Table, width: int) -> Iterable[RenderableType]:
    if not table.title and not table.about:
        return
    title, about = Text(printable(table.title), "bold"), Text(printable(table.about))
    if not table.title or not table.about or cell_len(table.title + table.about) + 2 <= width:
        yield Text("  " if table.title and table.about else "").join([title, about])
    else:
        yield from (title, about)


def _grid(table: Table, width: int) -> RenderableType:
    wide = width >= WIDE
    if not table.headed:
        grid = Grid(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    else:
        grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1 if wide else 0), header_style="bold")
    shown = [i for i, column in enumerate(table.columns) if wide or not column.spare]
    for i in shown:
        column = table.columns[i]
        grid.add_column(
            printable(column.heading), justify="right" if column.number else "left", overflow="fold"
        )
    for block in table.blocks:
        if grid.row_count:
            grid.add_section()
        for row in block:
            grid.add_row(*(_cell(row[i]) for i in shown))
    return grid


def _cell(cell: TableCell) -> Text:
    return Text(printable(MARKS.get(cell.look or "", "") + cell.full), LOOKS.get(cell.look or "", ""))
