"""A table as values: cells with a number, its spread and a mark, under columns, in blocks, with notes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Literal, TypeAlias, TypeVar

Look = Literal["best", "second", "strong", "good", "bad", "open", "failed", "faint"]
"""``best`` and ``second`` best of their kind; a line that stands out; a decision for, against or neither;
an error; what matters less."""

NONE = "–"
"""In place of a number that does not exist."""


@dataclass(frozen=True)
class TableCell:
    """One place of a table, as plain text: writers escape.

    Attributes:
        text: what people read, without its spread and mark.
        value: what programs read and what sorts; None where that is the text.
        spread: standard deviation in the unit of ``text``, shown to one decimal.
        short: ``text`` for narrow columns.
        mark: a sign behind it that the table's legend explains.
        look: how it stands out.
    """

    text: str
    _: KW_ONLY
    value: float | str | None = None
    spread: float | None = None
    short: str | None = None
    mark: str = ""
    look: Look | None = None

    @classmethod
    def accuracy(cls, mean: float | None, std: float | None = None, look: Look | None = None) -> TableCell:
        """``84.4 ± 0.5`` per cent of fractions; a dash without a mean."""
        if mean is None:
            return cls(NONE)
        spread = None if std is None else 100 * std
        return cls(f"{100 * mean:.1f}", value=100 * mean, spread=spread, look=look)

    @property
    def full(self) -> str:
        """``84.4 ± 0.5``, ``−2.9 ≈``."""
        spread = "" if self.spread is None else f" ± {self.spread:.1f}"
        return self.text + spread + (f" {self.mark}" if self.mark else "")

    @property
    def close(self) -> str:
        """``84.4±0.5``, ``18.3±23``, ``−2.9≈``: an accuracy takes at most eight characters."""
        if self.spread is None:
            return (self.text if self.short is None else self.short) + self.mark
        return f"{self.text}±{self.spread:.{1 if self.spread < 9.95 else 0}f}{self.mark}"


@dataclass(frozen=True)
class TableColumn:
    """A heading and how its cells are set.

    Attributes:
        heading: plain text; a table whose headings are all empty is a list of facts.
        number: set flush right.
        group: a heading over it and its neighbours of the same group.
        spare: left out where a line has little room.
    """

    heading: str
    _: KW_ONLY
    number: bool = False
    group: str = ""
    spare: bool = False


TableRow: TypeAlias = tuple[TableCell, ...]
Content: TypeAlias = TableCell | str | float | None
T = TypeVar("T")
Field: TypeAlias = tuple[TableColumn, Callable[[T], Content]]
"""A column, and what each thing that is listed has there."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A titled table.

    Attributes:
        title: what it shows, as a phrase.
        about: what its numbers are, as a phrase.
        columns: headings from left to right.
        blocks: rows as wide as the columns, with a rule between two blocks.
        notes: sentences below it.
        legend: sentences on its marks and columns, the same for every table of its kind. A document says
            them once, where its author puts them; a table that travels alone has them beside it.
        narrow: it has many columns: numbers stand in their short form, spreads close to them.
        name: by which others refer to it; made of the title if not given.
    """

    title: str = ""
    about: str = ""
    columns: tuple[TableColumn, ...]
    blocks: tuple[tuple[TableRow, ...], ...]
    notes: tuple[str, ...] = ()
    legend: tuple[str, ...] = ()
    narrow: bool = False
    name: str = ""

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.columns) for row in self.rows), "rows are as wide as the columns"

    @classmethod
    def of(
        cls,
        fields: Sequence[Field[T]],
        *blocks: Iterable[T],
        look: Callable[[T], Look | None] = lambda _: None,
        title: str = "",
        about: str = "",
        notes: Iterable[str] = (),
        legend: Iterable[str] = (),
    ) -> Table:
        """One row per thing, one column per field; ``look`` is that of a whole row."""
        listed = (tuple(_row(thing, fields, look(thing)) for thing in block) for block in blocks)
        return cls(
            title=title,
            about=about,
            columns=tuple(column for column, _ in fields),
            blocks=tuple(filter(None, listed)),
            notes=tuple(notes),
            legend=tuple(legend),
        )

    @classmethod
    def facts(cls, *rows: Iterable[Content], title: str = "", about: str = "") -> Table:
        """Rows without headings: what a thing is called, and what is said of it."""
        cells = tuple(_stand_out(row(*contents), "strong", 1) for contents in rows)
        width = max(map(len, cells), default=1)
        return cls(title=title, about=about, columns=(TableColumn(""),) * width, blocks=(cells,))

    @property
    def rows(self) -> Iterable[TableRow]:
        """The rows of all blocks."""
        return (row for block in self.blocks for row in block)

    @property
    def headed(self) -> bool:
        """Whether any column has a heading."""
        return any(column.heading for column in self.columns)


def label(heading: str = "") -> TableColumn:
    """A column of words."""
    return TableColumn(heading)


def number(heading: str) -> TableColumn:
    """A column of numbers."""
    return TableColumn(heading, number=True)


def row(*contents: Content) -> TableRow:
    """Cells of plain values: text, numbers, None where there is nothing."""
    return tuple(map(cell, contents))


def cell(content: Content) -> TableCell:
    """A cell of a plain value."""
    if isinstance(content, TableCell):
        return content
    if content is None:
        return TableCell(NONE)
    return TableCell(str(content), value=None if isinstance(content, str) else content)


def _row(thing: T, fields: Sequence[Field[T]], look: Look | None) -> TableRow:
    return _stand_out(row(*(content(thing) for _, content in fields)), look)


def _stand_out(cells: TableRow, look: Look | None, count: int | None = None) -> TableRow:
    """The first ``count`` cells, or all, with a look where they have none."""
    return tuple(replace(c, look=c.look or look) for c in cells[:count]) + (cells[count:] if count else ())
