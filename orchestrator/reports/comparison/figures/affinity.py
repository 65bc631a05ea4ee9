"""Task affinity (paper, eq. 8) as heat maps, one per seed, with the partition that was chosen."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from typing import Any

from orchestrator.compare.comparison import Affinity, Comparison
from orchestrator.reports.comparison.evidence import relative_margin
from orchestrator.reports.comparison.figures import style
from orchestrator.tables import words

TITLE = 41
"""Characters of a line above a panel."""

PALE = 1.3
"""The colour scale ends beyond the largest value by this factor, so that numbers stay readable on it."""


def affinity_figure(comparison: Comparison, split: str) -> Any | None:
    """A matrix per seed in one colour scale; None if no probe was measured at this split.

    Framed cells are pairs of tasks in one group. The matrices are symmetric and their diagonal decides
    nothing: only what lies below it is drawn.
    """
    found = [affinity for affinity in comparison.affinities if affinity.split == split]
    if not found or len(comparison.tasks) < 2:
        return None
    exponent = _exponent(found)
    limit = max(abs(v) for a in found for v in _off_diagonal(a)) / 10**exponent
    lowest = min(v for a in found for v in _off_diagonal(a)) / 10**exponent
    tasks = len(comparison.tasks)
    across = min(3, len(found))
    down = math.ceil(len(found) / across)
    figure = style.new_figure(style.PAGE if across > 1 else style.COLUMN, 0.4 + down * 2.5)
    cells = list(figure.subplots(down, across, squeeze=False).flat)
    image = None
    for i, (axes, affinity) in enumerate(zip(cells, found, strict=False)):
        image = _map(axes, affinity, exponent, lowest, limit)
        axes.set_xticks(
            range(tasks - 1), labels=comparison.tasks[:-1], rotation=20, ha="right", rotation_mode="anchor"
        )
        axes.set_yticks(
            range(tasks - 1), labels=comparison.tasks[1:] if i % across == 0 else [""] * (tasks - 1)
        )
        axes.set_title(_title(affinity, comparison), loc="left", fontsize=7)
    for axes in cells[len(found) :]:
        axes.set_axis_off()
    unit = "" if exponent == 0 else f" (10$^{{{exponent}}}$)"
    figure.colorbar(image, ax=cells, shrink=0.7, aspect=25, pad=0.01, label=f"Gradient similarity{unit}")
    figure.suptitle(
        f"{comparison.dataset}, {split}: task affinity; framed: in one group. {_agreement(found)}",
        fontsize=8,
        x=0.01,
        ha="left",
    )
    return figure


def _map(axes: Any, affinity: Affinity, exponent: int, lowest: float, limit: float) -> Any:
    import numpy as np
    from matplotlib.patches import Rectangle

    values = np.array(affinity.similarity) / 10**exponent
    shown = np.ma.masked_array(values, np.triu(np.ones_like(values, dtype=bool)))
    signed = lowest < 0
    digits = 2 if len(values) <= 5 else 1
    image = axes.imshow(
        shown[1:, :-1],
        cmap="PuOr_r" if signed else "Blues",
        vmin=-PALE * limit if signed else 0,
        vmax=PALE * limit,
    )
    for i, j in _pairs(len(values)):
        text = f"{values[i, j]:.{digits}f}".replace("-", words.MINUS)
        light = abs(values[i, j]) > 0.8 * limit
        axes.text(j, i - 1, text, ha="center", va="center", fontsize=7, color="white" if light else style.INK)
    together = {(i, j) for group in affinity.partition for i in group for j in group}
    for i, j in _pairs(len(values)):
        if (i, j) in together:
            frame = Rectangle(
                (j - 0.46, i - 1.46), 0.92, 0.92, fill=False, edgecolor=style.INK, linewidth=1.6
            )
            axes.add_patch(frame)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return image


def _title(affinity: Affinity, comparison: Comparison) -> str:
    chosen = words.partition(affinity.partition, comparison.tasks)
    lines = textwrap.wrap(f"Seed {affinity.seed}: {chosen}", TITLE)
    if affinity.margin is not None:
        lines.append(f"margin to the second best {relative_margin(affinity)}")
    if affinity.agreement is not None:
        lines.append(f"the choice of {100 * affinity.agreement:.0f}% of snapshots")
    return "\n".join(lines)


def _agreement(found: list[Affinity]) -> str:
    count = Counter(affinity.partition for affinity in found).most_common(1)[0][1]
    return f"{count} of {len(found)} seeds agree." if len(found) > 1 else ""


def _pairs(tasks: int) -> list[tuple[int, int]]:
    """Below the diagonal."""
    return [(i, j) for i in range(tasks) for j in range(i)]


def _off_diagonal(affinity: Affinity) -> list[float]:
    return [affinity.similarity[i][j] for i, j in _pairs(len(affinity.similarity))]


def _exponent(found: list[Affinity]) -> int:
    """The power of ten taken out of the numbers, so that two decimals say enough."""
    largest = max(abs(v) for affinity in found for v in _off_diagonal(affinity))
    exponent = math.floor(math.log10(largest)) if largest else 0
    return 0 if -1 <= exponent <= 1 else exponent
