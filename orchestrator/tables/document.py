"""What a report says, in its order and in no format: sections of sentences, tables and figures."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from orchestrator.tables.model import Table


@dataclass(frozen=True)
class Span:
    """A piece of a sentence that is set off.

    Attributes:
        text: what it says.
        kind: what someone types; a whole command line, which stays on one line; a word meant as a term; a
            link to another document of the report, or to a section of this one.
        target: name of the document or title of the section.
    """

    text: str
    kind: Literal["code", "command", "term", "document", "section"]
    target: str = ""


Sentence: TypeAlias = str | tuple[str | Span, ...]
"""Plain text, or pieces of it; writers escape."""


@dataclass(frozen=True)
class Paragraph:
    """A sentence or more; a caution must be read before all else."""

    text: Sentence
    caution: bool = False


@dataclass(frozen=True)
class Bullets:
    items: tuple[Sentence, ...]


@dataclass(frozen=True)
class Figure:
    """An image file of the report, by its place beside the document."""

    path: str
    text: str


@dataclass(frozen=True)
class Section:
    """A title and what stands under it; a document is the outermost one."""

    title: str
    blocks: tuple[Block, ...]


Block: TypeAlias = Paragraph | Bullets | Figure | Table | Section


def tables_of(section: Section) -> Iterable[Table]:
    """All tables, those of inner sections included, in order."""
    for block in section.blocks:
        if isinstance(block, Table):
            yield block
        elif isinstance(block, Section):
            yield from tables_of(block)


def spans(sentence: Sentence) -> tuple[str | Span, ...]:
    """The pieces of a sentence."""
    return (sentence,) if isinstance(sentence, str) else sentence


def marked(text: str) -> Sentence:
    """A sentence written here, with ``*terms*`` and `` `code` `` in it; never with what others named."""
    parts = re.split(r"(\*[^*]+\*|`[^`]+`)", text)
    return tuple(
        Span(part[1:-1], "code" if part[0] == "`" else "term") if part[0] in "`*" else part
        for part in parts
        if part
    )


def plain(sentence: Sentence) -> str:
    """A sentence without what sets its pieces off."""
    return "".join(span if isinstance(span, str) else span.text for span in spans(sentence))
