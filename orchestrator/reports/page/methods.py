"""The page of a comparison of methods: what came first, every method, the paper's tables."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, cast

from mmap_model.embedded import EMBEDDED
from orchestrator.compare.comparison import Comparison
from orchestrator.reports.comparison import notes, verdicts
from orchestrator.reports.comparison.contents import Contents
from orchestrator.reports.comparison.documents import documents
from orchestrator.reports.comparison.method_table import MethodResult, MethodTable
from orchestrator.reports.page.values import (
    Data,
    Grid,
    IntervalBar,
    Number,
    PageBlock,
    PageSection,
    PageSentence,
    PlotlyFigure,
    StudyPage,
    Text,
    column,
    joined,
    listed,
    style,
)
from orchestrator.tables.document import Figure as Image
from orchestrator.tables.document import Section as Chapter
from orchestrator.tables.document import marked
from orchestrator.tables.document import plain as plain_text
from orchestrator.tables.model import Field, Table, TableCell, label, number
from orchestrator.tables.words import duration, integer

RECIPES = {
    "shared": "shared learning rate",
    "published": "published recipes",
    "tuned": "tuned learning rates",
}


def methods_page(comparison: Comparison, *, made: str, software: str) -> StudyPage:
    """The whole page.

    Args:
        comparison: what was found.
        made: when, for people.
        software: its version.
    """
    contents = Contents(comparison)
    report = documents(contents, "page")["README"]
    chapters = [block for block in report.blocks if isinstance(block, Chapter)]
    about = tuple(block for block in report.blocks if not isinstance(block, Chapter))
    sections = [
        PageSection(name="verdict", title="Verdict", blocks=tuple(_verdict(contents))),
        PageSection(name="methods", title="All methods", blocks=tuple(_methods(contents))),
        *(PageSection(name=_name(c.title), title=c.title, blocks=_shown(c.blocks)) for c in chapters),
        PageSection(name="origin", title="How it came about", blocks=_shown(about)),
    ]
    return StudyPage(
        title=f"Comparison on {comparison.dataset}",
        subtitle=(f"Made {made} from the records of compare-{comparison.name} by version {software}.",),
        sections=tuple(sections),
    )


def _shown(blocks: Iterable[object]) -> tuple[PageBlock, ...]:
    """Blocks of a report as blocks of a page; images are files beside a report, and a page has none."""
    return cast(tuple[PageBlock, ...], tuple(block for block in blocks if not isinstance(block, Image)))


def _verdict(contents: Contents) -> list[PageBlock]:
    blocks: list[PageBlock] = [Text(_won(table), "lead") for table in _last(contents)]
    if not blocks:
        blocks.append(Text(("No method has been trained and scored yet.",), "lead"))
    if contents.claims:
        blocks.append(Text((f"Of the paper's claims: {verdicts.counted(contents.claims)}.",)))
    if contents.comparison.dataset in EMBEDDED:
        blocks.append(Text((plain_text(marked(notes.embedded(contents.comparison.dataset))),), "caution"))
    return blocks


def _last(contents: Contents) -> list[MethodTable]:
    """The table of each split that says most: tuned results, where there are any."""
    return list({table.split: table for table in contents.tables if _measured(table)}.values())


def _measured(table: MethodTable) -> list[MethodResult]:
    """Methods with an average, the best first, those that may not be ranked last."""
    found = [method for method in table.methods if method.average is not None]
    return sorted(found, key=lambda m: (m.unranked, -(m.average.mean if m.average else 0.0), m.column.name))


def _won(table: MethodTable) -> PageSentence:
    found = _measured(table)
    best = found[0]
    assert best.average is not None, "only methods with an average are ranked"
    opening = joined(
        f"At {table.split} with {RECIPES[table.recipe]} {_label(best)} is first with ",
        Number(f"{100 * best.average.mean:.1f}", _record(best), "test.average"),
        " % on test images, mean over tasks and seeds",
    )
    if len(found) == 1:
        return joined(opening, ".")
    second = found[1]
    assert second.average is not None, "only methods with an average are ranked"
    gap = Number(f"{100 * (best.average.mean - second.average.mean):.1f}", _record(second), "test.average")
    opening = joined(opening, ", ", gap, f" points above {_label(second)}")
    same = [_label(method) for method in found if method.worse is False]
    if not same:
        return joined(opening, ".")
    verb = "is" if len(same) == 1 else "are"
    return joined(opening, "; ", listed(same), f" {verb} not significantly different from it.")


def _methods(contents: Contents) -> list[PageBlock]:
    blocks: list[PageBlock] = []
    for place, table in enumerate(table for table in contents.tables if _measured(table)):
        blocks += [_grid(table, f"methods-{place}"), _tradeoff(table, f"tradeoff-{place}")]
    return blocks or [Text(("No method has been trained and scored yet.",))]


def _grid(table: MethodTable, name: str) -> Grid:
    found = _measured(table)
    fields: list[tuple[str, Field[MethodResult]]] = [
        ("column", (label("method"), lambda m: TableCell(_label(m), mark=m.mark))),
        ("regime", (label("trained"), lambda m: m.column.regime or "not")),
        ("parameters", (number("parameters"), lambda m: _count(m))),
        ("test.average", (number("average"), _average)),
        ("delta_m", (number("Δm over single-task full FT, %"), _delta)),
        (
            "seconds",
            (
                number("seconds"),
                lambda m: TableCell(duration(m.device_seconds), value=round(m.device_seconds, 1)),
            ),
        ),
    ]
    return Grid(
        name=name,
        table=Table.of(
            [f for _, f in fields],
            found,
            title=f"{table.split}, {RECIPES[table.recipe]}",
            about="accuracy on test images in %, mean ± standard deviation over seeds",
            look=lambda m: "strong" if m is found[0] else None,
        ),
        records=tuple(map(_record, found)),
        fields=tuple(name for name, _ in fields),
        spans=tuple(map(_span, found)),
        span_heading="95 % interval",
        span_at=2,
        sortable=True,
    )


def _tradeoff(table: MethodTable, name: str) -> PlotlyFigure:
    found = [method for method in _measured(table) if method.column.parameters]
    rows: list[tuple[Any, ...]] = []
    for method in found:
        average = method.average
        assert average is not None, "only methods with an average are ranked"
        half = None if average.high is None else 100 * (average.high - average.mean)
        rows.append(
            (
                _record(method),
                _label(method),
                method.column.parameters,
                100 * average.mean,
                half,
                method.column.regime,
            )
        )
    traces = tuple(
        {
            "type": "scatter",
            "mode": "markers+text",
            "x": column("parameters"),
            "y": column("average"),
            "text": column("method"),
            "textposition": "top center",
            "textfont": {"size": 11},
            "cliponaxis": False,
            "where": {"regime": regime},
            "name": words,
            "marker": {"size": 10, "color": style(f"series-{place}")},
            "error_y": {
                "type": "data",
                "array": column("half"),
                "thickness": 1,
                "width": 0,
                "color": style("faint"),
            },
            "hovertemplate": "%{text}: %{x} parameters, %{y:.1f} %<extra></extra>",
        }
        for place, (regime, words) in enumerate(
            {"single": "a copy per task", "multi": "all tasks together", "grouped": "by groups"}.items()
        )
        if any(method.column.regime == regime for method in found)
    )
    return PlotlyFigure(
        name=name,
        title=f"Accuracy against trained parameters, {table.split}, {RECIPES[table.recipe]}",
        text=(
            "Every point is a method with its average over tasks; bars are 95 % intervals over seeds. "
            "Methods further left train less, and those further up are more often right.",
        ),
        data=Data.of(("record", "method", "parameters", "average", "half", "regime"), rows),
        traces=traces,
        layout={
            "xaxis": {"type": "log", "title": {"text": "trained parameters, all tasks"}},
            "yaxis": {"title": {"text": "average test accuracy, %"}},
        },
        height=420,
    )


def _record(method: MethodResult) -> str:
    """The cell that a method's numbers begin with; of an average over others their names."""
    entry = method.entry
    if entry is None or not entry.cells:
        return f"columns/{method.column.name}"
    return f"cells/{next(iter(entry.cells.values()))}"


def _label(method: MethodResult) -> str:
    single = " (single)" if method.column.regime == "single" else ""
    return f"{method.column.label}{single}"


def _count(method: MethodResult) -> TableCell:
    return TableCell(integer(method.column.parameters), value=method.column.parameters)


def _seconds(method: MethodResult) -> TableCell:
    return TableCell(duration(method.device_seconds), value=round(method.device_seconds, 1))


def _average(method: MethodResult) -> TableCell:
    average = method.average
    return TableCell.accuracy(average.mean, average.std) if average else TableCell("–")


def _delta(method: MethodResult) -> TableCell:
    value = method.over_full_single
    return (
        TableCell("–")
        if value is None
        else TableCell(f"{value:+.1f}".replace("-", "−"), value=round(value, 4))
    )


def _span(method: MethodResult) -> IntervalBar | None:
    average = method.average
    if average is None:
        return None
    low, high = average.low, average.high
    return IntervalBar(
        low=None if low is None else 100 * low,
        middle=100 * average.mean,
        high=None if high is None else 100 * high,
    )


def _name(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
