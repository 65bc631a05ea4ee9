"""A page as HTML: text by Jinja2, escaped; figures by the one copy of plotly.js in the page."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from orchestrator.reports.page.values import Axis, Grid, IntervalBar, PlotLine, StudyPage, plain

TEMPLATES = Path(__file__).parent / "templates"

SCALE = 1000
"""Units of the drawings' own coordinates from one end to the other."""


@dataclass(frozen=True)
class Library:
    """The script that draws figures.

    Attributes:
        name: with its version.
        code: JavaScript.
    """

    name: str
    code: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.code.encode()).hexdigest()


def render(page: StudyPage, inputs: Mapping[str, Any], library: Library | None) -> str:
    """The whole page in one file that asks for nothing.

    Args:
        page: what it says.
        inputs: from which the page can be made again, JSON-able; they travel in it.
        library: draws the figures; None leaves its place empty.
    """
    written = json.dumps(inputs, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return str(
        _environment()
        .get_template("page.html")
        .render(
            page=page,
            inputs=written.replace("<", "\\u003c"),
            inputs_sha256=hashlib.sha256(written.replace("<", "\\u003c").encode()).hexdigest(),
            library="" if library is None else library.code,
            style=(TEMPLATES / "page.css").read_text("utf-8"),
            script=(TEMPLATES / "page.js").read_text("utf-8"),
        )
    )


@cache
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["kind"] = lambda value: type(value).__name__
    environment.filters["plain"] = plain
    environment.filters["path"] = _path
    environment.filters["spread"] = _spread
    environment.globals["SCALE"] = SCALE
    environment.globals["unknown_block"] = _unknown_block
    environment.globals["span_scale"] = SpanScale.of
    return environment


def _unknown_block(kind: str) -> str:
    """The template chooses by the name of a block's class: one that it does not know must not vanish."""
    raise AssertionError(f"blocks.html has no form for a {kind}")


def _path(line: PlotLine, axes: int, height: int) -> str:
    """A line across ``axes`` axes as a path of SVG; it is interrupted where it has no place."""
    parts, pen = [], "M"
    for number, place in enumerate(line.places):
        if place is None:
            pen = "M"
            continue
        x = SCALE * number / max(1, axes - 1)
        parts.append(f"{pen}{x:.0f} {height * (1 - place):.0f}")
        pen = "L"
    return "".join(parts)


def _spread(axes: tuple[Axis, ...]) -> list[float]:
    """Places of the axes from left to right."""
    return [SCALE * number / max(1, len(axes) - 1) for number in range(len(axes))]


@dataclass(frozen=True)
class SpanScale:
    """One scale for the intervals of a table.

    Attributes:
        low, high: its ends.
    """

    low: float
    high: float

    @classmethod
    def of(cls, grid: Grid) -> SpanScale:
        """From the lowest to the highest end, with some air."""
        spans = [span for span in grid.spans or () if span is not None]
        ends = [end for span in spans for end in (span.low, span.middle, span.high) if end is not None]
        low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
        air = 0.04 * (high - low) or 1.0
        return cls(low - air, high + air)

    def x(self, value: float) -> str:
        """Where a number lies, 0 … `SCALE`."""
        return f"{SCALE * (value - self.low) / (self.high - self.low):.0f}"

    def ends(self, span: IntervalBar) -> tuple[str, str]:
        """Of the interval; of an open one the ends of the scale."""
        low = self.low if span.low is None else span.low
        high = self.high if span.high is None else span.high
        return self.x(low), self.x(high)
