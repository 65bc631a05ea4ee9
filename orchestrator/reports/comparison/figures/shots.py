"""Accuracy against labelled images per class, by task (paper, figure 5)."""

from __future__ import annotations

import math
import re
from typing import Any

from orchestrator.compare.comparison import Column, Comparison, RecipeChoice
from orchestrator.reports.comparison.contents import Contents
from orchestrator.reports.comparison.evidence import RECIPES as RECIPE_WORDS
from orchestrator.reports.comparison.figures import style
from orchestrator.reports.comparison.method_table import AVERAGE, MethodTable
from orchestrator.reports.comparison.roles import BEST_FIRST
from orchestrator.statistics.summary import Summary

Curve = dict[int, Summary]


def shots_figure(contents: Contents) -> Any | None:
    """A panel per task and one for their average; None with fewer than two few-shot splits.

    Curves are the multi-task prompt methods and zero-shot, bands the standard deviation over seeds.
    """
    comparison = contents.comparison
    recipe, tables = _tables(contents)
    if recipe is None or len(tables) < 2:
        return None
    columns = _columns(comparison, tables)
    if len(columns) < 2:
        return None
    panels = [AVERAGE, *comparison.tasks]
    across = min(3, len(panels) + 1)
    down = math.ceil((len(panels) + 1) / across)
    figure = style.new_figure(style.PAGE, 0.35 + 1.75 * down)
    grid = figure.subplots(down, across, sharex=True, squeeze=False)
    cells = list(grid.flat)
    for axes, name in zip(cells, panels, strict=False):
        for column in columns:
            _curve(axes, column, _points(tables, column, name))
        axes.set_title(name, loc="left", fontweight="bold" if name == AVERAGE else "normal")
        axes.set_xscale("log", base=2)
        axes.set_xticks(list(tables), labels=[str(k) for k in tables])
        axes.minorticks_off()
        axes.yaxis.grid(True)
    for i, axes in enumerate(cells[: len(panels)]):
        if i % across == 0:
            axes.set_ylabel("Test accuracy (%)")
        if i + across >= len(panels):
            axes.set_xlabel("Training images per class")
            axes.tick_params(labelbottom=True)
    for axes in cells[len(panels) :]:
        axes.set_axis_off()
    handles, labels = cells[0].get_legend_handles_labels()
    cells[len(panels)].legend(
        handles,
        labels,
        loc="center left",
        frameon=False,
        title=f"{comparison.dataset}\n{RECIPE_WORDS[recipe]}\nband: ± 1 std, seeds",
        title_fontsize=7,
        alignment="left",
    )
    return figure


def shots(split: str) -> int | None:
    """6 of ``6-shot``; None of any other split."""
    match = re.fullmatch(r"(\d+)-shot", split)
    return int(match.group(1)) if match else None


def _tables(contents: Contents) -> tuple[RecipeChoice | None, dict[int, MethodTable]]:
    """Tables by shots under the better recipe that has at least two."""
    for recipe in BEST_FIRST:
        found = {k: t for t in contents.tables if t.recipe == recipe and (k := shots(t.split)) is not None}
        if len(found) > 1:
            return recipe, dict(sorted(found.items()))
    return None, {}


def _columns(comparison: Comparison, tables: dict[int, MethodTable]) -> list[Column]:
    """Zero-shot and the multi-task prompt methods that were measured at two splits or more."""
    columns = []
    for column in comparison.columns:
        drawn = column.regime is None or (column.regime == "multi" and column.method in style.METHODS)
        if column.section == "table" and drawn and len(_points(tables, column, AVERAGE)) > 1:
            columns.append(column)
    return sorted(columns, key=lambda c: [*style.METHODS, "zero_shot"].index(c.method))


def _points(tables: dict[int, MethodTable], column: Column, row: str) -> Curve:
    found = {}
    for k, table in tables.items():
        for method in table.methods:
            summary = table.summary(method, row)
            if method.column.name == column.name and summary is not None:
                found[k] = summary
    return found


def _curve(axes: Any, column: Column, curve: Curve) -> None:
    x = list(curve)
    mean = [100 * s.mean for s in curve.values()]
    if column.regime is None:
        axes.plot(x, mean, color=style.GREY, linewidth=0.9, linestyle=(0, (4, 2)), label=column.label)
        return
    colour, marker, line = style.METHODS[column.method]
    own = column.method == "mmap"
    axes.plot(
        x, mean, color=colour, marker=marker, linestyle=line, label=column.label, zorder=4 if own else 3,
        linewidth=1.6 if own else 1.1, markersize=4 if own else 3,
    )  # fmt: skip
    std = [100 * (s.std or 0) for s in curve.values()]
    if any(std):
        low = [max(0.0, m - s) for m, s in zip(mean, std, strict=True)]
        high = [min(100.0, m + s) for m, s in zip(mean, std, strict=True)]
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0, zorder=1)
