"""What a page is made of: numbers with their records, sentences, tables, figures, sections. No HTML in it."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from orchestrator.tables.document import Bullets, Paragraph
from orchestrator.tables.model import NONE, Table

DIGITS = 6
"""Significant digits of a fraction in data: more than anybody reads, fewer than a sum's order changes."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number in a sentence.

    Attributes:
        text: as it is read.
        record: that it comes from, below the storage's root: ``studies/demo/trials/3``, ``cells/<key>``.
        field: its place there, or what of the record it was computed from.
    """

    text: str
    record: str
    field: str


@dataclass(frozen=True, slots=True)
class Code:
    """What someone may type, or a name, in a sentence."""

    text: str


@dataclass(frozen=True, slots=True)
class Link:
    """An address that the reader may open; the page itself never does."""

    text: str
    address: str


Piece: TypeAlias = str | Number | Code | Link
PageSentence: TypeAlias = tuple[Piece, ...]
Scalar: TypeAlias = str | int | float | None


@dataclass(frozen=True)
class Text:
    """A paragraph.

    Attributes:
        pieces: of its sentences.
        kind: ``lead`` stands out, ``note`` is small, ``caution`` must be read before all else.
    """

    pieces: PageSentence
    kind: str = "plain"


@dataclass(frozen=True)
class Sentences:
    """Sentences one below the other; each may be a command line."""

    items: tuple[PageSentence, ...]


@dataclass(frozen=True)
class Data:
    """Rows of plain values, each with the record that it comes from in its first column, ``record``."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Scalar, ...], ...]

    def __post_init__(self) -> None:
        assert self.columns[0] == "record", "every row names its record"
        assert all(len(row) == len(self.columns) for row in self.rows), "rows are as wide as the columns"

    @classmethod
    def of(cls, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Data:
        """Numbers rounded to `DIGITS`; what is not finite is left empty."""
        return cls(tuple(columns), tuple(tuple(map(scalar, row)) for row in rows))

    def csv(self) -> str:
        """As RFC 4180 has it, with line feeds."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(["" if value is None else value for value in row] for row in self.rows)
        return file.getvalue()


@dataclass(frozen=True, kw_only=True)
class PlotlyFigure:
    """A figure of plotly's.

    Its traces hold no numbers: `column` stands for a column of the data, in the rows that the trace's
    ``where`` names. So the figure shows what the CSV in the page says.

    Attributes:
        name: unique on the page, letters, digits and hyphens.
        title: what it shows, as a phrase.
        text: what is to be seen in it; also what a reader without the figure gets.
        data: behind it.
        traces, layout: as plotly.js has them, with `column`, `style` and `shown` in place of numbers, colours
            and names.
        height: pixels.
        note: what is not drawn, and why.
    """

    name: str
    title: str
    text: PageSentence
    data: Data
    traces: tuple[Mapping[str, Any], ...]
    layout: Mapping[str, Any] = field(default_factory=dict)
    height: int = 360
    note: PageSentence = ()


@dataclass(frozen=True, kw_only=True)
class Axis:
    """An axis of parallel coordinates.

    Attributes:
        label: its name.
        ticks: text and place (0 bottom … 1 top).
        log: distances are those of logarithms.
    """

    label: str
    ticks: tuple[tuple[str, float], ...]
    log: bool = False


@dataclass(frozen=True, kw_only=True)
class PlotLine:
    """One trial across the axes.

    Attributes:
        record: of the trial.
        label: what is said of it when pointed at.
        places: on each axis, 0 … 1; None where the trial has no such value.
        colour: 0 … 1.
    """

    record: str
    label: str
    places: tuple[float | None, ...]
    colour: float


@dataclass(frozen=True, kw_only=True)
class Parallel:
    """Parallel coordinates, drawn as lines of SVG; ``colour`` says what the lines' colours stand for."""

    name: str
    title: str
    text: PageSentence
    data: Data
    axes: tuple[Axis, ...]
    lines: tuple[PlotLine, ...]
    colour: str
    note: PageSentence = ()


@dataclass(frozen=True, kw_only=True)
class IntervalBar:
    """An interval drawn in a row of a table.

    Attributes:
        low, middle, high: of the number, in its unit; None where it is open.
    """

    low: float | None
    middle: float
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table whose rows come from records.

    Attributes:
        name: unique on the page.
        table: its cells; the number in a row comes from the row's record.
        records: of each row, in order.
        fields: of each column, what of the record stands there.
        spans: of each row, drawn on one scale in a column of its own; None: no such column.
        span_heading: of that column.
        span_at: number of the column that it stands before; None: behind the last.
        links: of each row, by column, an address.
        sortable: a reader may sort it by a column.
    """

    name: str
    table: Table
    records: tuple[str, ...]
    fields: tuple[str, ...]
    spans: tuple[IntervalBar | None, ...] | None = None
    span_heading: str = ""
    span_at: int | None = None
    links: tuple[Mapping[int, str], ...] = ()
    sortable: bool = False

    def __post_init__(self) -> None:
        rows = sum(1 for _ in self.table.rows)
        assert len(self.records) == rows, "every row has a record"
        assert len(self.fields) == len(self.table.columns), "every column has a field"
        assert self.spans is None or len(self.spans) == rows, "every row has a span, or none has"


@dataclass(frozen=True, kw_only=True)
class Download:
    """Data of the page in a file of its own: a link that needs no network."""

    name: str
    text: str
    data: Data


@dataclass(frozen=True, kw_only=True)
class Thumbnail:
    """An image that was classified wrongly.

    Attributes:
        record: of its cell.
        sample: its name in the dataset.
        caption: what it is and what it was taken for.
        image: as ``data:`` address.
    """

    record: str
    sample: str
    caption: PageSentence
    image: str


@dataclass(frozen=True)
class Gallery:
    """Thumbnails side by side."""

    title: str
    thumbnails: tuple[Thumbnail, ...]


@dataclass(frozen=True)
class SourceText:
    """A text as it is, such as a resolved study."""

    title: str
    text: str
    record: str


PageBlock: TypeAlias = (
    "Text | Sentences | PlotlyFigure | Parallel | Grid | Download | Gallery | SourceText | PageSection "
    "| Table | Paragraph | Bullets"
)


@dataclass(frozen=True, kw_only=True)
class PageSection:
    """A part of the page under a title.

    Attributes:
        name: unique on the page, letters, digits and hyphens.
        title: of it.
        blocks: what stands there; a section without data says why in a sentence.
    """

    name: str
    title: str
    blocks: tuple[PageBlock, ...]


@dataclass(frozen=True, kw_only=True)
class StudyPage:
    """A whole page.

    Attributes:
        title: of it.
        subtitle: what it is about and when it was made.
        sections: in the order in which they are read.
    """

    title: str
    subtitle: PageSentence
    sections: tuple[PageSection, ...]


def column(name: str) -> dict[str, str]:
    """In a trace: the numbers or words of a column of the figure's data."""
    return {"$column": name}


def style(name: str) -> dict[str, str]:
    """In a trace: a colour of the page, light or dark, such as ``soft``; see ``templates/page.css``."""
    return {"$style": f"--{name}"}


def series(number: int, of: str = "series") -> dict[str, str]:
    """The colour of the so-manieth series, from 0; there are eight."""
    return style(f"{of}-{number % 8}")


def shown(name: str) -> str:
    """In a trace: what others named, as text; plotly reads some HTML."""
    return name.replace("&", "&amp;").replace("<", "&lt;")


def scalar(value: Any) -> Scalar:
    """A plain value for data: numbers rounded, what is not finite None."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return value
    number = float(value)
    if not math.isfinite(number):
        return None
    return float(f"{number:.{DIGITS}g}")


def points(fraction: float | None, record: str, name: str, digits: int = 1) -> Number:
    """A fraction in per cent, without the sign of per cent."""
    return Number(NONE if fraction is None else f"{100 * fraction:.{digits}f}", record, name)


def joined(*pieces: Piece | PageSentence) -> PageSentence:
    """Pieces and sentences as one sentence."""
    found: list[Piece] = []
    for piece in pieces:
        found += piece if isinstance(piece, tuple) else (piece,)
    return tuple(found)


def listed(items: Sequence[Piece | PageSentence]) -> PageSentence:
    """``a, b and c``."""
    found: PageSentence = ()
    for number, item in enumerate(items):
        mark = "" if number == 0 else " and " if number == len(items) - 1 else ", "
        found = joined(found, mark, item) if mark else joined(item)
    return found


def plain(sentence: PageSentence) -> str:
    """A sentence as text."""
    return "".join(piece if isinstance(piece, str) else piece.text for piece in sentence)
