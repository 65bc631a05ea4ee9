"""A custom report format: HTML, in one file. Use it with

    orchestrator results demo --format docs/examples/html_format.py:FORMAT > demo.html

Moved to ``orchestrator/tables/formats/`` it is found by lying there, and ``compare`` writes it too.
"""

from __future__ import annotations

from html import escape

from orchestrator.tables import Bullets, Figure, Format, Section, Table, TableCell
from orchestrator.tables.document import Block, plain

LOOKS = {"best": "b", "strong": "b", "good": "b", "bad": "b", "second": "u", "faint": "small"}


def write(document: Section) -> str:
    """A document as one page."""
    return f'<!doctype html>\n<meta charset="utf-8">\n{_section(document, 1)}'


def _section(section: Section, level: int) -> str:
    title = f"<h{level}>{escape(section.title)}</h{level}>\n" if section.title else ""
    return title + "".join(_block(block, level + 1) for block in section.blocks)


def _block(block: Block, level: int) -> str:
    match block:
        case Section():
            return _section(block, level)
        case Table():
            heads = "".join(f"<th>{escape(column.heading)}</th>" for column in block.columns)
            rows = "".join(f"<tr>{''.join(map(_cell, row))}</tr>\n" for row in block.rows)
            title = f"<h{level}>{escape(block.title)}</h{level}>\n" if block.title else ""
            notes = "".join(f"<p>{escape(note)}</p>\n" for note in (block.about, *block.notes) if note)
            return f"{title}<table>\n<tr>{heads}</tr>\n{rows}</table>\n{notes}"
        case Bullets(items):
            return f"<ul>{''.join(f'<li>{escape(plain(item))}</li>' for item in items)}</ul>\n"
        case Figure(path, text):
            return f'<img src="{escape(path)}" alt="{escape(text)}">\n'
        case _:
            return f"<p>{escape(plain(block.text))}</p>\n"


def _cell(cell: TableCell) -> str:
    tag = LOOKS.get(cell.look or "")
    return f"<td><{tag}>{escape(cell.full)}</{tag}></td>" if tag else f"<td>{escape(cell.full)}</td>"


FORMAT = Format("html", "page", write)
