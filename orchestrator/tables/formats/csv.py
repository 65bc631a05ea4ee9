"""Tables as comma-separated values: what programs read, without titles and notes."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from orchestrator.tables.document import Section, tables_of
from orchestrator.tables.format import Format
from orchestrator.tables.model import NONE, Table, TableCell


def table(found: Table) -> str:
    """A header and the rows; a column with spreads is followed by one for them, in the same unit."""
    spreads = [any(row[i].spread is not None for row in found.rows) for i in range(len(found.columns))]

    def line(*values: Sequence[object]) -> list[object]:
        """Each value, and its spread where the column has spreads."""
        return [v for pair, both in zip(values, spreads, strict=True) for v in pair[: 1 + both]]

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(line(*((c.heading, f"{c.heading} std") for c in found.columns)))
    writer.writerows(line(*((_value(cell), cell.spread) for cell in row)) for row in found.rows)
    return text.getvalue()


def write(document: Section) -> str:
    """The tables of a document, an empty line between two."""
    return "\n".join(map(table, tables_of(document)))


def _value(cell: TableCell) -> float | str:
    return cell.value if cell.value is not None else "" if cell.text == NONE else cell.text


FORMAT = Format("csv", "records", write)
