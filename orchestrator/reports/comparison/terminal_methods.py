"""A method table on a terminal: all methods side by side, or in blocks where they do not fit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.text import Text

from orchestrator.compare.comparison import Entry
from orchestrator.reports.comparison import numbers
from orchestrator.reports.comparison.grids import MISSING
from orchestrator.reports.comparison.method_table import AVERAGE, MethodResult, MethodTable

REGIMES = {None: "", "single": "Single-task", "multi": "Multi-task"}
PLACES = {1: ("▸", "bold"), 2: ("▹", "underline")}
"""Before the best and second-best number of a row, in the space between two columns."""

SPARE = 3
"""Further columns between two methods at most."""

Cell = Callable[[MethodResult], Text]
Row = tuple[str, Cell | None]
"""Its name and what it says of a method; without that it is a rule."""


def method_block(table: MethodTable, width: int) -> RenderableType:
    """The table within ``width`` columns (at least 40), the methods in as many blocks as that takes."""
    rows = _rows(table)
    label = max(cell_len(name) for name, _ in rows)
    sizes = {
        id(m): max(1 + _size(m.column.label), *(cell_len(cell(m).plain) for _, cell in rows if cell))
        for m in table.methods
    }
    lines: list[RenderableType] = []
    for block in _blocks(table.methods, [sizes[id(m)] for m in table.methods], width - label):
        if lines:
            lines.append(Text(""))
        needed = label + sum(sizes[id(m)] for m in block)
        gap = max(0, min(SPARE, (width - needed) // len(block)))
        lines += _lines(block, rows, label, [sizes[id(m)] + gap for m in block])
    return Group(*lines)


def _blocks(
    methods: Sequence[MethodResult], sizes: Sequence[int], width: int
) -> Iterable[Sequence[MethodResult]]:
    """All methods if they fit, else cut between regimes, else wherever a line is full."""
    if sum(sizes) <= width:
        return [methods]
    by_regime: list[list[int]] = []
    for i, method in enumerate(methods):
        starts = method.column.regime == "multi" and methods[i - 1].column.regime != "multi"
        if not by_regime or starts:
            by_regime.append([])
        by_regime[-1].append(i)
    blocks: list[list[MethodResult]] = []
    for regime in by_regime:
        used = width + 1
        for i in regime:
            if used + sizes[i] > width:
                blocks.append([])
                used = 0
            blocks[-1].append(methods[i])
            used += sizes[i]
    return blocks


def _lines(
    methods: Sequence[MethodResult], rows: Sequence[Row], label: int, sizes: Sequence[int]
) -> Iterable[Text]:
    rule = Text("─" * (label + sum(sizes)), "dim")
    yield _regimes(methods, label, sizes)
    upper, lower = zip(*(_heading(m.column.label) for m in methods), strict=True)
    for heading in (upper, lower) if any(upper) else (lower,):
        yield Text(" " * label) + _joined([Text(h, "bold") for h in heading], sizes)
    yield rule
    for name, cell in rows:
        if cell is None:
            yield rule
            continue
        cells = [cell(m) for m in methods]
        if all(text.plain.strip() in ("", numbers.NONE) for text in cells):
            continue
        line = Text.assemble((name.ljust(label), "bold" if name == AVERAGE else ""))
        yield line + _joined(cells, sizes)


def _joined(cells: Sequence[Text], sizes: Sequence[int]) -> Text:
    line = Text(no_wrap=True)
    for cell, size in zip(cells, sizes, strict=True):
        line.append(" " * (size - cell_len(cell.plain)))
        line.append_text(cell)
    return line


def _regimes(methods: Sequence[MethodResult], label: int, sizes: Sequence[int]) -> Text:
    """``── Single-task ──`` over the methods of each regime."""
    line = Text(" " * label, "dim")
    spans: list[tuple[str, int]] = []
    for method, size in zip(methods, sizes, strict=True):
        name = REGIMES[method.column.regime]
        if spans and spans[-1][0] == name:
            spans[-1] = (name, spans[-1][1] + size)
        else:
            spans.append((name, size))
    for name, size in spans:
        line.append(" " + (f" {name} ".center(size - 1, "─") if name else " " * (size - 1)))
    return line


def _heading(label: str) -> tuple[str, str]:
    """Two lines: long labels break after their hyphen or space."""
    for mark in ("-", " "):
        head, found, tail = label.partition(mark)
        if found and len(label) > 8:
            return head + mark.strip(), tail
    return "", label


def _size(label: str) -> int:
    return max(map(cell_len, _heading(label)))


def _rows(table: MethodTable) -> list[Row]:
    """Names and cells from top to bottom."""

    def plain(text: Callable[[MethodResult], str]) -> Cell:
        return lambda method: Text(f" {text(method)}")

    def of_trained(text: Callable[[MethodResult, Entry], str]) -> Cell:
        return plain(
            lambda m: numbers.NONE if m.entry is None or m.column.regime is None else text(m, m.entry)
        )

    methods = table.methods
    rows: list[Row] = [(task, _accuracy(table, task)) for task in table.comparison.tasks]
    rows += [("", None), (AVERAGE, _accuracy(table, AVERAGE))]
    rows.append(("from best", plain(_from_best)))
    rows += [
        ("", None),
        ("parameters", plain(lambda m: numbers.short_count(m.column.parameters))),
        ("of CLIP", plain(lambda m: numbers.share(m.column.share))),
        ("rate", of_trained(lambda _, entry: numbers.rate(entry.lr, entry.edge))),
    ]
    if table.recipe == "tuned":
        rows.append(("rates tried", of_trained(_tried)))
        rows.append(("task losses", of_trained(lambda _, entry: entry.loss_reduction)))
    if any(m.device_seconds for m in methods):
        rows.append(("device", plain(lambda m: numbers.seconds(m.device_seconds))))
    if any(m.probe_seconds for m in methods):
        rows.append(("  of probe", plain(lambda m: numbers.seconds(m.probe_seconds))))
    if any(m.over_own_single is not None for m in methods):
        rows.append(("Δm own", plain(lambda m: _relative(m.over_own_single))))
    if any(m.over_full_single is not None for m in methods):
        rows.append(("Δm full FT", plain(lambda m: _relative(m.over_full_single))))
    if any(m.worst is not None for m in methods):
        rows.append(("worst task", plain(lambda m: numbers.signed(m.worst[1]) if m.worst else numbers.NONE)))
        rows.append(("  which", plain(lambda m: _short(m.worst[0]) if m.worst else "")))
    return rows


def _accuracy(table: MethodTable, row: str) -> Cell:
    places = table.places(row)

    def cell(method: MethodResult) -> Text:
        summary = table.summary(method, row)
        if summary is None:
            return Text(f" {MISSING}", "red") if method.error else Text(f" {numbers.NONE}", "dim")
        mark, style = PLACES.get(places.get(method.column.name, 0), (" ", ""))
        return Text(mark) + Text(numbers.narrow_percent(summary), style)

    return cell


def _from_best(method: MethodResult) -> str:
    if method.average is None:
        return numbers.NONE
    if method.from_best is None:
        return "best"
    return numbers.signed(method.from_best.mean) + method.mark


def _short(name: str) -> str:
    return name if len(name) <= 8 else name[:7] + "…"


def _tried(_: MethodResult, entry: Entry) -> str:
    failed = sum(trial.error is not None for trial in entry.trials)
    tried = len(entry.trials)
    return f"{tried - failed} of {tried}" if failed else str(tried or numbers.NONE)


def _relative(value: float | None) -> str:
    return numbers.NONE if value is None else numbers.signed(value / 100) + "%"
