"""A method table laid out: methods as rows for pages, as columns for papers and screens."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from orchestrator.compare.comparison import ColumnResult
from orchestrator.reports.comparison import notes
from orchestrator.reports.comparison.method_table import AVERAGE, MethodResult, MethodTable
from orchestrator.tables import Table, TableCell, TableColumn, label, number, row, words
from orchestrator.tables.model import NONE, Content

ReportLayout = Literal["page", "paper", "screen"]
REGIMES = {None: "", "single": "Single-task", "multi": "Multi-task", "grouped": "Grouped"}
MISSING = "none"
"""In place of a number that does not exist for a reason; the reason stands below the table."""

SHOWN = ("spread", "tied", "left out", "edge")
"""Parts of the legend that concern what papers print."""


@dataclass(frozen=True)
class _Quantity:
    """What a table says of every method: a column on pages, a row elsewhere.

    Attributes:
        name: its heading.
        said: of one method.
        layouts: that have it.
        block: of rows that it belongs to.
    """

    name: str
    said: Callable[[MethodResult], Content]
    layouts: tuple[ReportLayout, ...] = ("page", "screen")
    block: int = 2


ALL: tuple[ReportLayout, ...] = ("page", "paper", "screen")


def methods(table: MethodTable, layout: ReportLayout) -> Table:
    """All that is known of the methods, for pages and screens, or what the paper prints of them."""
    quantities = [quantity for quantity in _quantities(table) if layout in quantity.layouts]
    if layout == "page":
        return Table.of(
            [
                (label("Method"), lambda m: m.column.label),
                (label("Training"), lambda m: REGIMES[m.column.regime].lower() or None),
                *((number(quantity.name), quantity.said) for quantity in quantities),
            ],
            table.methods,
            title=notes.title(table),
            about=notes.budget(table),
            notes=notes.remarks(table),
            legend=notes.legend(table),
        )
    suffix = " learning" if layout == "paper" else ""
    groups = {regime: name and name + suffix for regime, name in REGIMES.items()}
    return Table(
        title=notes.title(table),
        about=notes.budget(table),
        columns=(
            label("Method"),
            *(TableColumn(m.column.label, number=True, group=groups[m.column.regime]) for m in table.methods),
        ),
        blocks=tuple(
            tuple(row(q.name, *map(q.said, table.methods)) for q in quantities if q.block == block)
            for block in range(3)
        ),
        notes=tuple(notes.remarks(table)),
        legend=tuple(notes.legend(table, SHOWN) if layout == "paper" else notes.legend(table)),
        narrow=True,
        name=f"{table.comparison.dataset}-{table.split}-{table.recipe}",
    )


def _quantities(table: MethodTable) -> Iterable[_Quantity]:
    for task in table.comparison.tasks:
        yield _Quantity(task, _accuracy(table, task), ALL, block=0)
    yield _Quantity(AVERAGE, _accuracy(table, AVERAGE), ALL, block=1)
    yield _Quantity("From best", _from_best, ALL, block=1)
    yield _Quantity("Parameters", _parameters, ALL)
    yield _Quantity("Of CLIP", lambda m: words.short_share(m.column.share))
    yield _Quantity("Rate", _of_trained(lambda entry: words.rate(entry.lr, entry.edge)), ALL)
    if table.recipe == "tuned":
        yield _Quantity("Rates tried", _of_trained(_tried))
    if table.recipe != "shared" and any(m.entry and m.entry.optimiser for m in table.methods):
        yield _Quantity("Optimiser", _of_trained(lambda entry: entry.optimiser or NONE))
    if table.recipe == "published":
        yield _Quantity("Epochs × batch", _of_trained(_amount))
    if any(method.failed for method in table.methods):
        yield _Quantity("Failed starts", _failed_starts)
    if any(method.calibration is not None for method in table.methods):
        yield _Quantity("ECE", _calibration)
    yield _Quantity("Losses", _of_trained(lambda entry: entry.loss_reduction))
    yield _Quantity("Device", _device)
    yield _Quantity("  of probe", lambda m: words.short_duration(m.probe_seconds), ("screen",))
    if table.comparison.around is not None and table.recipe == "tuned":
        yield _Quantity("Search", _of_trained(lambda entry: words.short_duration(entry.search_seconds)))
    yield _Quantity("Δm own", lambda m: _relative(m.over_own_single))
    yield _Quantity("Δm full FT", lambda m: _relative(m.over_full_single))
    yield _Quantity("Worst task", _worst)
    yield _Quantity("  which", lambda m: _short(m.worst[0]) if m.worst else "", ("screen",))


def _accuracy(table: MethodTable, name: str) -> Callable[[MethodResult], TableCell]:
    places = table.places(name)

    def said(method: MethodResult) -> TableCell:
        summary = table.summary(method, name)
        if summary is None:
            return TableCell(MISSING, look="failed") if method.error else TableCell(NONE)
        place = places.get(method.column.name)
        return TableCell.accuracy(
            summary.mean, summary.std, "best" if place == 1 else "second" if place == 2 else None
        )

    return said


def _amount(entry: ColumnResult) -> str:
    """Passes over the images, or steps where its recipe counts those, and the images of a step."""
    amount = f"{entry.epochs}" if entry.steps is None else f"{entry.steps:,} steps"
    return f"{amount} × {entry.batch_size}"


def _from_best(method: MethodResult) -> TableCell:
    if method.average is None:
        return TableCell(NONE)
    if method.unranked:
        return TableCell("unranked")
    if method.from_best is None:
        return TableCell("best")
    return TableCell(words.signed(method.from_best.mean), value=method.from_best.mean, mark=method.mark)


def _parameters(method: MethodResult) -> TableCell:
    count = method.column.parameters or None
    return TableCell(words.integer(count), value=count, short=words.short_integer(count))


def _of_trained(said: Callable[[ColumnResult], str]) -> Callable[[MethodResult], str]:
    return lambda m: NONE if m.entry is None or m.column.regime is None else said(m.entry)


def _tried(entry: ColumnResult) -> str:
    failed = sum(trial.error is not None for trial in entry.trials)
    tried = len(entry.trials)
    return f"{tried - failed} of {tried}" if failed else str(tried or NONE)


def _failed_starts(method: MethodResult) -> str:
    if method.column.regime is None or (method.entry is None and not method.failed):
        return NONE
    worked = method.average.n if method.average else 0
    return f"{len(method.failed)} of {len(method.failed) + worked}"


def _calibration(method: MethodResult) -> TableCell:
    if method.calibration is None:
        return TableCell(NONE)
    return TableCell(f"{100 * method.calibration:.1f}", value=100 * method.calibration)


def _device(method: MethodResult) -> TableCell:
    text = words.short_duration(method.device_seconds)
    probe = f" (probe {words.short_duration(method.probe_seconds)})" if method.probe_seconds else ""
    return TableCell(text + probe, value=method.device_seconds, short=text)


def _worst(method: MethodResult) -> TableCell:
    if method.worst is None:
        return TableCell(NONE)
    task, gain = method.worst
    return TableCell(f"{words.signed(gain)} ({task})", value=gain, short=words.signed(gain))


def _relative(value: float | None) -> str:
    return NONE if value is None else words.signed(value / 100) + "%"


def _short(name: str) -> str:
    return name if len(name) <= 8 else name[:7] + "…"
