"""Tables as LaTeX (packages booktabs and graphicx), method tables in the paper's layout."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from orchestrator.reports.comparison import numbers
from orchestrator.reports.comparison.contents import Contents
from orchestrator.reports.comparison.grid import Grid, Value
from orchestrator.reports.comparison.grids import MISSING
from orchestrator.reports.comparison.method_table import AVERAGE, MethodResult, MethodTable
from orchestrator.reports.comparison.notes import budget, legend, remarks, title

SPECIAL = {
    "\\": r"\textbackslash{}",
    **{c: "\\" + c for c in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    numbers.MINUS: "$-$",
    "–": "--",
    "≈": r"$\approx$",
    "Δ": r"$\Delta$",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
    "←": r"$\leftarrow$",
    "|": r"$\mid$",
    "†": r"$\dagger$",
    "<": r"$<$",
    ">": r"$>$",
    "\N{NO-BREAK SPACE}": "~",
}
"""What LaTeX does not print as it stands."""

PLACES = {1: r"\textbf", 2: r"\underline"}
HEAD = "% Needs \\usepackage{booktabs,graphicx}; input this file, or the tables you want from it.\n"
SHOWN = ("spread", "tied", "left out", "edge")
"""Parts of the legend that concern what is printed here."""

SPANS = {"single": "Single-task learning", "multi": "Multi-task learning"}


def tables(contents: Contents) -> str:
    """All tables of a report as floats, to be read with ``\\input``."""
    found = [methods(table) for table in contents.tables]
    rest = (grid for name, grids in contents.grids() if not name.startswith("Methods") for grid in grids)
    return HEAD + "\n" + "\n".join([*found, *(grid(table) for table in rest)])


def methods(table: MethodTable) -> str:
    """Tasks as rows, methods as columns under their regimes, the best bold and the second underlined."""
    columns = table.methods
    rows = [_line([task, *(_accuracy(table, m, task) for m in columns)]) for task in table.comparison.tasks]
    rows += [r"\midrule", _line([AVERAGE, *(_accuracy(table, m, AVERAGE) for m in columns)])]
    rows.append(_line(["From best", *(_from_best(m) for m in columns)]))
    rows += [
        r"\midrule",
        _line(["Parameters", *(escape(numbers.short_count(m.column.parameters)) for m in columns)]),
        _line(["Rate", *(_rate(m) for m in columns)]),
    ]
    label = f"tab:{_slug(table.comparison.dataset)}-{_slug(table.split)}-{table.recipe}"
    said = " ".join([f"{budget(table)}.", *legend([table], SHOWN), *remarks(table)])
    return _float(
        align="l" + "c" * len(columns),
        head=[*_spans(columns), _line(["Method", *(escape(m.column.label) for m in columns)])],
        rows=rows,
        caption=f"{title(table)}. {said}",
        label=label,
    )


def grid(table: Grid) -> str:
    """A grid as a float."""
    return _float(
        align=table.align,
        head=[_line([escape(name) for name in table.header])],
        rows=[_line([_value(cell) for cell in cells]) for cells in table.rows],
        caption=" ".join([f"{table.title}.", *table.legend, *table.notes]),
        label=f"tab:{_slug(table.title)}",
    )


def escape(text: str) -> str:
    """Plain text for LaTeX."""
    return "".join(SPECIAL.get(character, character) for character in text)


def _float(*, align: str, head: Sequence[str], rows: Sequence[str], caption: str, label: str) -> str:
    lines = [
        r"\begin{table*}[t]",
        r"\centering",
        r"\setlength{\tabcolsep}{3pt}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{@{{}}{align}@{{}}}}",
        r"\toprule",
        *head,
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}}",
        rf"\caption{{{escape(caption)}}}",
        rf"\label{{{label}}}",
        r"\end{table*}",
    ]
    return "\n".join(lines) + "\n"


def _spans(methods: Sequence[MethodResult]) -> Iterable[str]:
    """The regimes over their columns, with a rule below each."""
    cells, rules, position = [""], [], 2
    while position - 2 < len(methods):
        regime = methods[position - 2].column.regime
        width = sum(m.column.regime == regime for m in methods[position - 2 :])
        name = SPANS.get(regime or "")
        cells.append(rf"\multicolumn{{{width}}}{{c}}{{{name or ''}}}")
        if name:
            rules.append(rf"\cmidrule(lr){{{position}-{position + width - 1}}}")
        position += width
    yield _line(cells)
    yield " ".join(rules)


def _line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _accuracy(table: MethodTable, method: MethodResult, row: str) -> str:
    summary = table.summary(method, row)
    if summary is None:
        return MISSING if method.error else "--"
    text = f"{100 * summary.mean:.1f}"
    place = table.places(row).get(method.column.name, 0)
    if place in PLACES:
        text = f"{PLACES[place]}{{{text}}}"
    return text if summary.std is None else rf"{text}{{\scriptsize$\pm${100 * summary.std:.1f}}}"


def _from_best(method: MethodResult) -> str:
    if method.average is None:
        return "--"
    if method.from_best is None:
        return "best"
    return escape(numbers.signed(method.from_best.mean) + method.mark)


def _rate(method: MethodResult) -> str:
    if method.entry is None or method.column.regime is None:
        return "--"
    return escape(numbers.rate(method.entry.lr, method.entry.edge))


def _value(cell: Value) -> str:
    text = escape(cell.text)
    return f"{PLACES[cell.place]}{{{text}}}" if cell.place and text else text


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower().replace("%", "pc")).strip("-")
