"""Documents as Markdown (CommonMark with GitHub's tables)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from orchestrator.tables.document import Block, Bullets, Figure, Paragraph, Section, Sentence, Span, spans
from orchestrator.tables.format import Format
from orchestrator.tables.model import Table, TableCell

LOOKS = {**dict.fromkeys(("best", "strong", "good", "bad"), "**{}**"), "second": "<ins>{}</ins>"}
SPECIAL = re.compile(
    r"[`\[\]]"
    r"|\\(?=[!-/:-@\[-`{-~]|$)"  # a backslash before a sign, or where the writer puts one
    r"|<(?=[A-Za-z/!?])|&(?=#?\w+;)"  # tags and entities
    r"|[*~](?=\S|$)|(?<![^\W_])_(?=\S|$)"  # what can open emphasis
)
"""What would be read as markup where it stands, and nothing else: pages are also read as they are."""
BETWEEN_STARS = re.compile(rf"{SPECIAL.pattern}|\*")
"""The same within emphasis, which any star may close."""


def write(document: Section) -> str:
    """The whole document as one page."""
    return "\n\n".join(_section(document, 1)) + "\n"


def table(found: Table) -> str:
    """A pipe table, blocks one below the other; the best is bold, the second best underlined."""
    lines = [
        "| " + " | ".join(_in_table(column.heading) for column in found.columns) + " |",
        "|" + "|".join("--:" if column.number else "---" for column in found.columns) + "|",
        *("| " + " | ".join(map(_cell, row)) + " |" for row in found.rows),
    ]
    return "\n".join(lines)


def escape(text: str, special: re.Pattern[str] = SPECIAL) -> str:
    """Plain text on one line of Markdown."""
    return special.sub(r"\\\g<0>", " ".join(text.splitlines()))


def _section(section: Section, level: int) -> Iterable[str]:
    if section.title:
        yield f"{'#' * level} {escape(section.title)}"
    for block in section.blocks:
        yield from _block(block, level)


def _block(block: Block, level: int) -> Iterable[str]:
    match block:
        case Section():
            yield from _section(block, level + 1)
        case Table():
            if block.title:
                yield f"{'#' * (level + 1)} {escape(block.title)}"
            yield table(block)
            if notes := [*([f"{block.about}."] if block.about else []), *block.notes]:
                yield _bullets(notes)
        case Paragraph(text, caution):
            yield f"{'> ' * caution}{_text(text)}"
        case Bullets(items):
            yield _bullets(items)
        case Figure(path, text):
            yield f"![{escape(text)}]({path})"


def _bullets(items: Iterable[Sentence]) -> str:
    return "\n".join(f"- {_text(item)}" for item in items)


def _text(sentence: Sentence) -> str:
    return "".join(map(_span, spans(sentence)))


def _span(span: str | Span) -> str:
    if isinstance(span, str):
        return escape(span)
    if span.kind in ("code", "command"):
        return f"`{span.text}`" if "`" not in span.text else f"`` {span.text} ``"
    if span.kind == "term":
        return f"*{escape(span.text, BETWEEN_STARS)}*"
    anchor = "#" + re.sub(r"[^\w]+", "-", span.target.lower())
    return f"[{escape(span.text)}]({anchor if span.kind == 'section' else f'{span.target}.md'})"


def _cell(cell: TableCell) -> str:
    look = LOOKS.get(cell.look or "", "{}")
    text = _in_table(cell.full, BETWEEN_STARS if "*" in look else SPECIAL)
    return look.format(text) if text else text


def _in_table(text: str, special: re.Pattern[str] = SPECIAL) -> str:
    return escape(text.strip(" "), special).replace("|", "\\|")


FORMAT = Format("md", "page", write)
