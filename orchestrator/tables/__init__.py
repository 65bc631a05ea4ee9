"""One model for all that is reported: tables of cells, and documents that hold them. No format in it."""

from orchestrator.tables.document import Bullets, Code, Emphasis, Figure, Link, Paragraph, Quote, Section
from orchestrator.tables.format import Format
from orchestrator.tables.model import Cell, Column, Field, Table, label, number, row

__all__ = [
    "Bullets",
    "Cell",
    "Code",
    "Column",
    "Emphasis",
    "Field",
    "Figure",
    "Format",
    "Link",
    "Paragraph",
    "Quote",
    "Section",
    "Table",
    "label",
    "number",
    "row",
]
