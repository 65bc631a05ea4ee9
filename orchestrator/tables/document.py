"""What a report says, in its order and in no format: sections of sentences, tables and figures."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from orchestrator.tables.model import Table


@dataclass(frozen=True)
class Code:
    """What someone types, or a name as a program knows it."""

    text: str


@dataclass(frozen=True)
class Emphasis:
    """A word that is meant as a term."""

    text: str


@dataclass(frozen=True)
class Link:
    """To another document of the report by its name, or to a section of this one by its title."""

    text: str
    document: str = ""
    section: str = ""


Span: TypeAlias = str | Code | Emphasis | Link
Sentence: TypeAlias = str | tuple[Span, ...]
"""Plain text, or pieces of it; writers escape."""


@dataclass(frozen=True)
class Paragraph:
    text: Sentence


@dataclass(frozen=True)
class Quote:
    """What must be read first."""

    text: Sentence


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


Block: TypeAlias = Paragraph | Quote | Bullets | Figure | Table | Section


def tables_of(section: Section) -> Iterable[Table]:
    """All tables, those of inner sections included, in order."""
    for block in section.blocks:
        if isinstance(block, Table):
            yield block
        elif isinstance(block, Section):
            yield from tables_of(block)


def spans(sentence: Sentence) -> tuple[Span, ...]:
    """The pieces of a sentence."""
    return (sentence,) if isinstance(sentence, str) else sentence


def marked(text: str) -> Sentence:
    """A sentence of one's own with ``*terms*`` and `` `code` `` in it; never with what others named."""
    parts = re.split(r"(\*[^*]+\*|`[^`]+`)", text)
    kinds: dict[str, type[Emphasis | Code]] = {"*": Emphasis, "`": Code}
    return tuple(kinds[part[0]](part[1:-1]) if part[0] in kinds else part for part in parts if part)


def plain(sentence: Sentence) -> str:
    """A sentence without what sets its pieces off."""
    return "".join(span if isinstance(span, str) else span.text for span in spans(sentence))
