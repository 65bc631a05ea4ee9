"""Tables as comma-separated values: what programs read, without titles and notes."""

from __future__ import annotations

import csv
import io

from orchestrator.tables.document import Section, tables_of
from orchestrator.tables.format import Format
from orchestrator.tables.model import NONE, Cell, Column, Table


def table(found: Table) -> str:
    """A header and the rows; a column with spreads is followed by one for them, in the same unit."""
    spread = [any(row[i].spread is not None for row in found.rows) for i in range(len(found.columns))]

    def head(column: Column, both: bool) -> list[str]:
        return [column.heading, f"{column.heading} std"] if both else [column.heading]

    def cells(cell: Cell, both: bool) -> list[object]:
        return [_value(cell), "" if cell.spread is None else cell.spread] if both else [_value(cell)]

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([t for c, both in zip(found.columns, spread, strict=True) for t in head(c, both)])
    for row in found.rows:
        writer.writerow([v for c, both in zip(row, spread, strict=True) for v in cells(c, both)])
    return text.getvalue()


def write(document: Section) -> str:
    """The tables of a document, an empty line between two."""
    return "\n".join(map(table, tables_of(document)))


def _value(cell: Cell) -> float | str:
    return cell.value if cell.value is not None else "" if cell.text == NONE else cell.text


FORMAT = Format("csv", "records", write)
