"""Tables as LaTeX floats (packages booktabs and graphicx); sentences are the paper's own."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import groupby

from orchestrator.tables.document import Section, tables_of
from orchestrator.tables.format import Format
from orchestrator.tables.model import Table, TableCell, TableColumn

SPECIAL = {
    "\\": r"\textbackslash{}",
    **{c: "\\" + c for c in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "\N{MINUS SIGN}": "$-$",
    "–": "--",
    "≈": r"$\approx$",
    "Δ": r"$\Delta$",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
    "←": r"$\leftarrow$",
    "×": r"$\times$",
    "σ": r"$\sigma$",
    "|": r"$\mid$",
    "†": r"$\dagger$",
    "[": "{[}",  # behind the end of a row it would begin an option, and a star would be one
    "]": "{]}",
    "*": "{*}",
    "<": r"$<$",
    ">": r"$>$",
    "\N{NO-BREAK SPACE}": "~",
    "\n": " ",
}
"""What LaTeX does not print as it stands."""

LOOKS = {
    "best": r"\textbf",
    "strong": r"\textbf",
    "good": r"\textbf",
    "bad": r"\textbf",
    "second": r"\underline",
}
HEAD = "% Needs \\usepackage{booktabs,graphicx}; input this file, or the tables you want from it.\n"


def write(document: Section) -> str:
    """All tables of a document, to be read with ``\\input``."""
    text = "\n".join(map(table, tables_of(document)))
    return HEAD + _declared(text) + "\n" + text


def table(found: Table) -> str:
    """A float with all sentences that belong to the table in its caption."""
    about = [f"{found.about}."] if found.about else []
    align = "".join(("c" if found.narrow else "r") if column.number else "l" for column in found.columns)
    head = [*_groups(found.columns), _line(escape(column.heading) for column in found.columns)]
    cell = _narrow if found.narrow else _cell
    body = [[_line(map(cell, row)) for row in block] for block in found.blocks]
    ruled = [line for part in ([head] if found.headed else []) + body for line in (r"\midrule", *part)]
    lines = [
        r"\begin{table*}[t]",
        r"\centering",
        r"\setlength{\tabcolsep}{3pt}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{@{{}}{align}@{{}}}}",
        r"\toprule",
        *ruled[1:],
        r"\bottomrule",
        r"\end{tabular}}",
        rf"\caption{{{escape(' '.join([f'{found.title}.', *about, *found.legend, *found.notes]))}}}",
        rf"\label{{tab:{_slug(found.name or found.title)}}}",
        r"\end{table*}",
    ]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """Plain text for LaTeX."""
    text = unicodedata.normalize("NFC", text)
    parts = (SPECIAL.get(character, character) for character in text)
    return re.sub("(?<=-)-", "{}-", "".join(parts)) if "--" in text else "".join(parts)


def _declared(text: str) -> str:
    """What pdfLaTeX prints in place of characters that it does not know; other engines print them."""
    return "".join(
        rf"\ifcsname u8:\detokenize{{{c}}}\endcsname\else\expandafter\gdef"
        rf"\csname u8:\detokenize{{{c}}}\endcsname{{(U+{ord(c):04X})}}\fi"
        "\n"
        for c in sorted({*text})
        if not c.isascii()
    )


def _groups(columns: Sequence[TableColumn]) -> Iterable[str]:
    """Headings over neighbouring columns, with a rule below each; nothing where there are none."""
    if not any(column.group for column in columns):
        return
    cells, rules, position = [], [], 1
    for name, members in groupby(columns, key=lambda column: (column.number, column.group)):
        width = len(list(members))
        cells.append(rf"\multicolumn{{{width}}}{{c}}{{{escape(name[1])}}}" if name[0] else "")
        if name[1]:
            rules.append(rf"\cmidrule(lr){{{position}-{position + width - 1}}}")
        position += width
    yield _line(cells)
    yield " ".join(rules)


def _line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _cell(cell: TableCell) -> str:
    return _look(cell, cell.full)


def _narrow(cell: TableCell) -> str:
    if cell.spread is None:
        return _look(cell, cell.close)
    return _look(cell, cell.text) + rf"{{\scriptsize$\pm${cell.spread:.1f}}}" + escape(cell.mark)


def _look(cell: TableCell, text: str) -> str:
    look = LOOKS.get(cell.look or "")
    return f"{look}{{{escape(text)}}}" if look and text else escape(text)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower().replace("%", "pc")).strip("-")


FORMAT = Format("tex", "paper", write)
