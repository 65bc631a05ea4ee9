"""A small table of text that the terminal, Markdown and LaTeX print alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Place = Literal[1, 2]


@dataclass(frozen=True)
class Value:
    """One cell: its text, and whether it is the best (1) or second best (2) of its kind."""

    text: str
    place: Place | None = None


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A titled table.

    Attributes:
        title: what it shows, as a phrase.
        header: one heading per column.
        rows: as wide as the header.
        align: ``l`` or ``r`` per column.
        notes: sentences below it.
        legend: sentences on its marks and columns, the same for every table of its kind.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    align: str
    notes: tuple[str, ...] = ()
    legend: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        assert len(self.align) == len(self.header), "one alignment per column"
        assert all(len(row) == len(self.header) for row in self.rows), "rows are as wide as the header"


def row(*cells: str | Value) -> tuple[Value, ...]:
    """Cells of one row; plain text has no place."""
    return tuple(cell if isinstance(cell, Value) else Value(cell) for cell in cells)
