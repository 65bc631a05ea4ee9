"""One model for all that is reported: tables of cells, and documents that hold them. No format in it."""

from orchestrator.tables.document import Bullets, Figure, Paragraph, Section, Span
from orchestrator.tables.format import Format
from orchestrator.tables.model import Cell, Column, Field, Table, label, number, row

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
    "label",
    "number",
    "row",
]
