"""Where two texts of one page differ first, in words: which section, which record, which number."""

from __future__ import annotations

import csv
import html
import re
from dataclasses import dataclass

CHUNK = 1 << 16
"""Characters that are compared at once."""

_TOKEN = re.compile(r"[^\s<>\"',;=()]+")


@dataclass(frozen=True, kw_only=True)
class PageDifference:
    """A place of a page that is not what the records say.

    Attributes:
        place: in words.
        record: below the storage's root; empty where no number is meant.
        page: what stands there.
        records: what would stand there.
    """

    place: str
    record: str = ""
    page: str
    records: str

    def in_words(self) -> str:
        """One line."""
        whose = f" ({self.record})" if self.record else ""
        return f"{self.place}{whose}: the page has {self.page!r}, the records give {self.records!r}"


def first_difference(page: str, fresh: str) -> PageDifference | None:
    """The first place at which a page is not what it is when it is made again; None if it is the same."""
    at = _offset(page, fresh)
    if at is None:
        return None
    place, record = _place(fresh, min(at, len(fresh) - 1))
    return PageDifference(place=place, record=record, page=_token(page, at), records=_token(fresh, at))


def _offset(a: str, b: str) -> int | None:
    if a == b:
        return None
    shorter = min(len(a), len(b))
    for start in range(0, shorter, CHUNK):
        if a[start : start + CHUNK] != b[start : start + CHUNK]:
            for i in range(start, min(shorter, start + CHUNK)):
                if a[i] != b[i]:
                    return i
    return shorter


def _token(text: str, at: int) -> str:
    """The word or number around a place."""
    start = max(
        (match.end() for match in re.finditer(r"[\s<>\"',;=()]", text[max(0, at - 80) : at])), default=0
    )
    found = _TOKEN.match(text, max(0, at - 80) + start)
    return html.unescape(found[0][:80]) if found else text[at : at + 20].strip()


def _place(text: str, at: int) -> tuple[str, str]:
    """A place of a page in words, and the record that is responsible for it."""
    section = _attribute(text, at, '<section id="') or "head of the page"
    block = _attribute(text, at, '<figure id="', "</figure>") or _attribute(
        text, at, '<table id="', "</table>"
    )
    where = f"section {section}" + (f", {block}" if block else "")
    if (opened := _inside(text, at, '<pre class="csv"', "</pre>")) is not None:
        return _csv_place(text, opened, at, where)
    if _inside(text, at, '<script type="application/json" class="spec">', "</script>") is not None:
        return f"{where}, how the figure is drawn", ""
    if (opened := _inside(text, at, "<data ", "</data>")) is not None:
        record, field = _named(text, opened, "data-key"), _named(text, opened, "data-field")
        return f"{where}, in the text, {field}", record
    if (opened := _inside(text, at, "<tr data-key", "</tr>")) is not None:
        record = _named(text, opened, "data-key")
        cell = _inside(text, at, "<td", "</td>")
        field = "interval" if cell is None else _named(text, cell, "data-field") or "interval"
        return f"{where}, column {field}", record
    if (opened := _inside(text, at, "<path ", "</path>")) is not None:
        return f"{where}, a line", _named(text, opened, "data-key")
    return where, ""


def _csv_place(text: str, opened: int, at: int, where: str) -> tuple[str, str]:
    begin = text.index(">", opened) + 1
    head = html.unescape(text[begin : text.index("\n", begin)])
    line = max(begin, text.rfind("\n", begin, at) + 1)
    end = text.find("\n", line)
    columns = next(csv.reader([head]))
    before = next(csv.reader([html.unescape(text[line:at])]), [""])
    record = next(csv.reader([html.unescape(text[line:end])]), [""])[0]
    name = columns[min(max(len(before), 1), len(columns)) - 1]
    row = text.count("\n", begin, at)
    return f"{where}, CSV row {row}, column {name}", record if row else ""


def _inside(text: str, at: int, opening: str, closing: str) -> int | None:
    """Where the element around a place begins; None if none is open there."""
    opened = text.rfind(opening, 0, at + 1)
    if opened < 0 or text.rfind(closing, opened, at) >= 0:
        return None
    return opened


def _attribute(text: str, at: int, opening: str, closing: str = "") -> str:
    opened = text.rfind(opening, 0, at + 1) if not closing else _inside(text, at, opening, closing)
    if opened is None or opened < 0:
        return ""
    begin = opened + len(opening)
    return html.unescape(text[begin : text.find('"', begin)])


def _named(text: str, opened: int, name: str) -> str:
    """An attribute of the element that begins there."""
    end = text.find(">", opened)
    found = re.search(rf'{name}="([^"]*)"', text[opened:end])
    return html.unescape(found[1]) if found else ""
