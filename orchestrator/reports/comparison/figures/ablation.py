"""Table 3 and the prompt-generator figure (paper, figure 4) drawn: every seed, the mean and its spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.reports.comparison.ablation import Ablation, AblationRow
from orchestrator.reports.comparison.evidence import RECIPES as RECIPE_WORDS
from orchestrator.reports.comparison.figures import style
from orchestrator.statistics.summary import Summary, summarize
from orchestrator.tables import words

COLUMN_LABEL = 36
"""Characters of a label beyond which the figure takes the width of a page."""


@dataclass(frozen=True)
class _Line:
    label: str
    seeds: Sequence[float]
    own: bool = False
    chosen: frozenset[int] = frozenset()

    @property
    def summary(self) -> Summary:
        return summarize(self.seeds)


def ablation_figure(found: Ablation) -> Any | None:
    """Panels for prompts and groups, for generators and for partitions, as far as measured.

    Dots instead of bars: differences of a point are read on an axis that does not start at zero, where the
    length of a bar would mislead. Small dots are seeds.
    """
    from matplotlib.ticker import MaxNLocator

    panels = [
        (title, lines)
        for title, lines in (
            ("Prompts and groups", _rows(found.framework)),
            ("What makes the prompts", _rows(found.generators, sized=True)),
            ("Partitions (ringed: chosen)", _partitions(found)),
        )
        if len(lines) > 1
    ]
    if not panels:
        return None
    heights = [len(lines) + 0.6 for _, lines in panels]
    longest = max(len(line.label) for _, lines in panels for line in lines)
    width = style.COLUMN if longest <= COLUMN_LABEL else style.PAGE
    figure = style.new_figure(width, 0.5 + 0.21 * sum(heights) + 0.18 * len(panels))
    cells = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (title, lines) in zip(cells, panels, strict=True):
        _panel(axes, lines)
        axes.set_title(title, loc="left")
    cells[-1].xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    cells[-1].set_xlabel("Average test accuracy (%)")
    figure.suptitle(
        f"{found.comparison.dataset}, {found.split}, {RECIPE_WORDS[found.recipe]}",
        fontsize=8,
        x=0.01,
        ha="left",
    )
    return figure


def _panel(axes: Any, lines: Sequence[_Line]) -> None:
    for place, line in enumerate(lines):
        colour = style.HIGHLIGHT if line.own else style.BLUE
        summary = line.summary
        seeds = [100 * value for value in line.seeds]
        ringed = [seeds[i] for i in sorted(line.chosen)]
        axes.scatter(seeds, [place] * len(seeds), s=7, color=style.GREY, alpha=0.75, linewidth=0, zorder=2)
        axes.scatter(
            ringed, [place] * len(ringed), s=26, facecolor="none", edgecolor=style.HIGHLIGHT, zorder=4
        )
        spread = 100 * (summary.std or 0)
        axes.errorbar(100 * summary.mean, place, xerr=spread, color=colour, marker="o", zorder=3)
        axes.annotate(
            f"{100 * summary.mean:.1f}",
            (1.01, place),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=7,
            fontweight="bold" if line.own else "normal",
        )
        if line.own:
            axes.axvline(
                100 * summary.mean, color=style.HIGHLIGHT, linewidth=0.6, linestyle=(0, (4, 2)), zorder=1
            )
    axes.set_yticks(range(len(lines)), labels=[line.label for line in lines])
    for tick, line in zip(axes.get_yticklabels(), lines, strict=True):
        tick.set_fontweight("bold" if line.own else "normal")
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.grid(True)
    axes.set_axisbelow(True)


def _rows(rows: Sequence[AblationRow], *, sized: bool = False) -> list[_Line]:
    def label(row: AblationRow) -> str:
        return f"{row.label} ({words.short_integer(row.parameters)})" if sized else row.label

    return [_Line(label(row), list(row.seeds.values()), own=row.published) for row in rows if row.seeds]


def _partitions(found: Ablation) -> list[_Line]:
    pairings = found.pairings
    if pairings is None:
        return []
    chosen = {choice.seed: choice.partition for choice in pairings.choices}
    lines = []
    for partition, _ in pairings.ranked():
        seeds = pairings.accuracy[partition]
        lines.append(
            _Line(
                words.partition(partition, found.comparison.tasks),
                list(seeds.values()),
                chosen=frozenset(i for i, seed in enumerate(seeds) if chosen.get(seed) == partition),
            )
        )
    return lines
