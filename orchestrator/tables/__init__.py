"""One model for all that is reported: tables of cells, and documents that hold them. No format in it."""

from orchestrator.tables.document import Bullets, Figure, Paragraph, Section, Span
from orchestrator.tables.format import Format
from orchestrator.tables.model import Field, Table, TableCell, TableColumn, label, number, row

Cell, Column = TableCell, TableColumn
"""The names that formats written for earlier versions import."""

__all__ = [
    "Bullets",
    "Cell",
    "Column",
    "Field",
    "Figure",
    "Format",
    "Paragraph",
    "Section",
    "Span",
    "Table",
    "TableCell",
    "TableColumn",
    "label",
    "number",
    "row",
]
