"""Accuracy against each setting by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.reports.page.evidence import Evidence
from orchestrator.reports.page.sections.naming import trial_record
from orchestrator.reports.page.values import (
    Data,
    Number,
    PageBlock,
    PageSentence,
    PlotlyFigure,
    column,
    style,
)
from orchestrator.tables.words import SYMBOLS

SHOWN = 1500
"""Trials that are drawn, the best ones; the data have all."""

OFFERED = 12
"""Different numbers up to which each has its own place; more are on an axis with distances."""

COLUMNS = 3
"""Panels side by side."""


def slices(evidence: Evidence) -> list[PageBlock]:
    """A panel per setting that varied among complete trials; none where nothing did."""
    names = [name for name in evidence.varied if name != "method" and _different(evidence, name) > 1]
    if not names or len(evidence.ranked) < 3:
        return []
    rows = [
        (
            trial_record(evidence, row["number"]),
            row["number"],
            *(_value(row["config"].get(name)) for name in names),
            100 * row[evidence.score_field]["mean"],
            rank <= SHOWN,
        )
        for rank, row in enumerate(evidence.ranked, start=1)
    ]
    lines = -(-len(names) // COLUMNS)
    traces, layout = [], dict[str, Any]()
    layout["grid"] = {
        "rows": lines,
        "columns": min(COLUMNS, len(names)),
        "pattern": "independent",
        "ygap": 0.32,
        "xgap": 0.12,
    }
    layout["showlegend"] = False
    for i, name in enumerate(names):
        suffix = "" if i == 0 else str(i + 1)
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": column(name),
                "y": column("accuracy"),
                "customdata": column("trial"),
                "xaxis": f"x{suffix}",
                "yaxis": f"y{suffix}",
                "where": {"drawn": "true"},
                "marker": {"color": style("series-0"), "size": 7, "opacity": 0.75},
                "hovertemplate": "trial %{customdata}<br>%{x}: %{y:.1f} %<extra></extra>",
            }
        )
        axis: dict[str, Any] = {"title": {"text": SYMBOLS.get(name, name)}}
        if name in evidence.logarithmic:
            axis |= {"type": "log", "dtick": "D2", "tickformat": "~g"}
        elif not _is_numeric(rows, 2 + i):
            axis |= {"type": "category"}
        elif _different(evidence, name) <= OFFERED:
            axis |= {"type": "category", "categoryorder": "array", "categoryarray": _order(rows, 2 + i)}
        layout[f"xaxis{suffix}"] = axis
        layout[f"yaxis{suffix}"] = {"title": {"text": "accuracy, %" if i % COLUMNS == 0 else ""}}
    note: PageSentence = ()
    if len(rows) > SHOWN:
        total = Number(str(len(rows)), evidence.record, "trials")
        note = (f"The best {SHOWN} of ", total, " trials are drawn; the data have all.")
    return [
        PlotlyFigure(
            name="slices",
            title="Accuracy against each setting",
            text=(
                "Every point is a complete trial. Points above one another differ in other settings and in "
                "their seeds' noise, so a panel shows where good trials lie, not what a setting alone does.",
            ),
            data=Data.of(("record", "trial", *names, "accuracy", "drawn"), rows),
            traces=tuple(traces),
            layout=layout,
            height=60 + 250 * lines,
            note=note,
        )
    ]


def _different(evidence: Evidence, name: str) -> int:
    return len({repr(row["config"].get(name)) for row in evidence.ranked})


def _value(value: Any) -> Any:
    if value is None:
        return "auto"
    return value if isinstance(value, str | int | float) and not isinstance(value, bool) else str(value)


def _is_numeric(rows: Sequence[tuple[Any, ...]], at: int) -> bool:
    return all(isinstance(row[at], int | float) for row in rows)


def _order(rows: Sequence[tuple[Any, ...]], at: int) -> list[str]:
    """Numbers that were offered one by one, by size."""
    return [f"{value:g}" for value in sorted({row[at] for row in rows})]
