"""How all figures look: sizes, colours, markers, and how they are saved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

COLUMN = 3.4
"""Width of one column of a paper in inches."""

PAGE = 7.0
"""Width of a page's text."""

BLUE, ORANGE, GREEN, PURPLE, SKY, AMBER = "#0072b2", "#d55e00", "#009e73", "#aa4499", "#56b4e9", "#e69f00"
"""Colours that stay apart in every common form of colour blindness (after Okabe and Ito)."""

INK, GREY, FAINT = "#222222", "#777777", "#d9d9d9"

METHODS = {
    "mmap": (ORANGE, "o", "-"),
    "maple": (BLUE, "s", "--"),
    "coop": (GREEN, "^", "-."),
    "vpt": (PURPLE, "D", ":"),
}
"""Colour, marker and line of methods drawn as curves."""

REGIMES = {"single": (BLUE, "s"), "multi": (GREEN, "o"), "grouped": (BLUE, "D")}
HIGHLIGHT = ORANGE

SETTINGS = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "pdf.fonttype": 42,
    "figure.dpi": 200,
}


@contextmanager
def styled() -> Iterator[None]:
    """The settings, for drawing and for saving."""
    import matplotlib

    with matplotlib.rc_context(SETTINGS):
        yield


def new_figure(width: float, height: float) -> Any:
    """A figure of its own, apart from pyplot and its state; inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Any, folder: Path, name: str) -> list[Path]:
    """``name.png`` and ``name.pdf``, the same bytes for the same figure."""
    _take_literally(figure)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out once, not again for every format
    paths = [folder / f"{name}.png", folder / f"{name}.pdf"]
    for path in paths:
        metadata = {"CreationDate": None} if path.suffix == ".pdf" else {}
        partial = path.with_name(f".{path.name}.partial")
        figure.savefig(partial, format=path.suffix[1:], metadata=metadata)
        partial.replace(path)
    return paths


def _take_literally(figure: Any) -> None:
    """A dollar sign in a name is one: only the powers of ten of logarithmic axes are mathematics."""
    from matplotlib.text import Text
    from matplotlib.ticker import LogFormatter

    axes = [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]
    powers = {
        label
        for axis in axes
        if isinstance(axis.get_major_formatter(), LogFormatter)
        for label in axis.findobj(Text)
    }
    for text in figure.findobj(Text):
        if text not in powers:
            text.set_parse_math(False)
