"""Accuracy against trained parameters (paper, figure 1)."""

from __future__ import annotations

import math
from typing import Any

from orchestrator.reports.comparison.evidence import RECIPES as RECIPE_WORDS
from orchestrator.reports.comparison.figures import style
from orchestrator.reports.comparison.figures.labels import Box, place_labels
from orchestrator.reports.comparison.method_table import MethodResult, MethodTable

AREAS = (14.0, 130.0)
"""Marker areas in square points from the fewest to the most parameters, linear in their logarithm."""

AIR = 3.0
"""Kept free on both sides of a label, in pixels at 100 dpi."""


def tradeoff_figure(table: MethodTable) -> Any | None:
    """One split: every trained method over its parameters, zero-shot as a line; None below two methods.

    Markers grow with the logarithm of the parameters; bars are the standard deviation over seeds.
    """
    trained = [m for m in table.methods if m.average and m.column.parameters]
    if len(trained) < 2:
        return None
    figure = style.new_figure(style.COLUMN, 2.9)
    axes = figure.add_subplot()
    counts = [m.column.parameters for m in trained]
    axes.set_xscale("log")
    axes.set_xlim(min(counts) / 3, max(counts) * 4)
    for method in trained:
        _point(axes, method, min(counts), max(counts))
    _zero_shot(axes, table)
    low = min(m.average.mean - (m.average.std or 0) for m in table.methods if m.average)
    high = max(m.average.mean + (m.average.std or 0) for m in table.methods if m.average)
    room = 0.12 * (high - low) or 0.01
    axes.set_ylim(max(0.0, 100 * (low - room)), min(100.0, 100 * (high + room)))
    axes.set_xlabel("Trained parameters (all tasks)")
    axes.set_ylabel("Average test accuracy (%)")
    axes.yaxis.grid(True)
    axes.set_axisbelow(True)
    _legend(axes, trained)
    axes.set_title(f"{table.comparison.dataset}, {table.split}, {RECIPE_WORDS[table.recipe]}", loc="left")
    _labels(figure, axes, trained, min(counts), max(counts))
    return figure


def _point(axes: Any, method: MethodResult, least: int, most: int) -> None:
    colour, marker = _look(method)
    assert method.average is not None
    mean, std = 100 * method.average.mean, 100 * (method.average.std or 0)
    count = method.column.parameters
    axes.errorbar(count, mean, yerr=std, color=style.INK, elinewidth=0.6, capsize=0, zorder=4, fmt="none")
    axes.scatter(
        count,
        mean,
        s=_area(count, least, most),
        marker=marker,
        color=colour,
        edgecolor="white",
        linewidth=0.6,
        zorder=3,
        gid=method.column.name,
    )


def _zero_shot(axes: Any, table: MethodTable) -> None:
    for method in table.methods:
        if method.column.regime is None and method.average is not None:
            axes.axhline(100 * method.average.mean, color=style.GREY, linewidth=0.8, linestyle=(0, (4, 2)))
            axes.annotate(
                f"{method.column.label}, nothing trained",
                (0.995, 100 * method.average.mean),
                xycoords=("axes fraction", "data"),
                xytext=(0, 2),
                textcoords="offset points",
                ha="right",
                va="bottom",
                color=style.GREY,
                fontsize=6.5,
            )


def _legend(axes: Any, trained: list[MethodResult]) -> None:
    from matplotlib.lines import Line2D

    names = {"single": "single-task", "multi": "multi-task", "grouped": "grouped"}
    present = [regime for regime in names if any(m.column.regime == regime for m in trained)]
    handles = [
        Line2D([], [], color=style.REGIMES[r][0], marker=style.REGIMES[r][1], linestyle="", label=names[r])
        for r in present
    ]
    if len(handles) > 1:
        axes.legend(
            handles=handles,
            loc="lower center",
            bbox_to_anchor=(0.5, -0.36),
            ncols=len(handles),
            frameon=False,
            handletextpad=0.1,
        )


def _labels(figure: Any, axes: Any, trained: list[MethodResult], least: int, most: int) -> None:
    """Names beside the markers, with a thin line where one had to move away."""
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    scale = figure.dpi / 100
    centres, markers, bars, sizes, texts = [], [], [], [], []
    for method in trained:
        assert method.average is not None
        x, y = axes.transData.transform((method.column.parameters, 100 * method.average.mean))
        radius = math.sqrt(_area(method.column.parameters, least, most) / math.pi) * figure.dpi / 72
        _, top = axes.transData.transform((1, 100 * (method.average.mean + (method.average.std or 0))))
        centres.append((x, y))
        markers.append(Box(x - radius, y - radius, x + radius, y + radius))
        bars.append(Box(x - 2, 2 * y - top, x + 2, top))
        text = axes.text(0, 0, method.column.label, fontsize=6.5, transform=None, zorder=4, clip_on=False)
        if method.column.method == "mmap":
            text.set_fontweight("bold")
        extent = text.get_window_extent(renderer)
        sizes.append((extent.width + 2 * AIR * scale, extent.height))
        texts.append(text)
    inside = axes.get_window_extent(renderer)
    frame = Box(inside.x0 + 2, inside.y0 + 2, inside.x1, inside.y1)
    bars += [Box(*text.get_window_extent(renderer).extents) for text in axes.texts if text not in texts]
    boxes = place_labels(markers, sizes, frame, bars, scale)
    to_data = axes.transData.inverted()
    for text, box, (x, y), marker in zip(texts, boxes, centres, markers, strict=True):
        text.set_transform(axes.transData)
        text.set_position(to_data.transform((box.left + AIR * scale, box.bottom)))
        text.set_va("bottom")
        near_x, near_y = min(max(x, box.left), box.right), min(max(y, box.bottom), box.top)
        if math.hypot(near_x - x, near_y - y) > (marker.right - marker.left) / 2 + 6 * scale:
            ends = [to_data.transform(point) for point in ((x, y), (near_x, near_y))]
            axes.plot(*zip(*ends, strict=True), color=style.GREY, linewidth=0.5, zorder=1)


def _look(method: MethodResult) -> tuple[str, str]:
    colour, marker = style.REGIMES[method.column.regime or "multi"]
    return (style.HIGHLIGHT if method.column.method == "mmap" else colour), marker


def _area(count: int, least: int, most: int) -> float:
    share = math.log(count / least) / math.log(most / least) if most > least else 0.5
    return AREAS[0] + (AREAS[1] - AREAS[0]) * share
