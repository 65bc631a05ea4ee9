"""Numbers of a comparison as text: narrow, with a real minus sign, in per cent of fractions."""

from __future__ import annotations

from collections.abc import Sequence

from mmap_model.configuration import Partition
from orchestrator.statistics.summary import Summary

MINUS = "\N{MINUS SIGN}"
NONE = "–"
ARROWS = {"low": "↓", "high": "↑"}
"""Behind a tuned rate at the end of its range: the direction in which a better one may lie."""


def percent(summary: Summary | None, separator: str = " ± ") -> str:
    """``84.4 ± 0.5``; without the spread if there is one seed."""
    if summary is None:
        return NONE
    text = f"{100 * summary.mean:.1f}"
    return text if summary.std is None else f"{text}{separator}{100 * summary.std:.1f}"


def narrow_percent(summary: Summary | None) -> str:
    """``84.4±0.5`` or ``18.3±23``: at most eight characters."""
    if summary is None or summary.std is None or 100 * summary.std < 9.95:
        return percent(summary, "±")
    return f"{100 * summary.mean:.1f}±{100 * summary.std:.0f}"


def signed(fraction: float | None, digits: int = 1) -> str:
    """``+0.3`` or ``−1.2`` points of a difference of fractions; a rounded zero has no sign."""
    if fraction is None:
        return NONE
    text = f"{100 * fraction:+.{digits}f}"
    return f"{0:.{digits}f}" if float(text) == 0 else text.replace("-", MINUS)


def interval(summary: Summary | None, digits: int = 1) -> str:
    """``−0.4 to +1.9`` points; a dash if one seed leaves it open."""
    if summary is None or summary.low is None:
        return NONE
    return f"{signed(summary.low, digits)} to {signed(summary.high, digits)}"


def short_count(number: int) -> str:
    """``8 192``, ``129.7k``, ``4.78M``, ``149.62M``: exact below 100 000."""
    if number >= 999_950:
        return f"{number / 1e6:.2f}M"
    return f"{number / 1e3:.1f}k" if number >= 100_000 else exact_count(number)


def exact_count(number: int) -> str:
    """``129 744``, with no-break spaces."""
    return f"{number:,}".replace(",", "\N{NO-BREAK SPACE}") if number else NONE


def share(fraction: float) -> str:
    """``0.087%`` with two significant digits, ``100%``."""
    if not fraction:
        return NONE
    value = 100 * fraction
    return f"{value:.0f}%" if value >= 9.95 else f"{value:.2g}%"


def rate(lr: float | None, edge: str | None = None) -> str:
    """``0.0035``, ``2e-5``, with an arrow at the end of the range."""
    if lr is None:
        return NONE
    text = f"{lr:.3g}".replace("e-0", "e-")
    return text + (ARROWS[edge] if edge else "")


def seconds(value: float) -> str:
    """``173 s``, ``12 min``, ``3.1 h``: at most seven characters."""
    if not value:
        return NONE
    if value < 9.95:
        return f"{value:.1f} s"
    if value < 995:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 5970 else f"{value / 3600:.1f} h"


def groups(partition: Partition | None, tasks: Sequence[str]) -> str:
    """``clipart+sketch | photo+painting``."""
    if partition is None:
        return NONE
    return " | ".join("+".join(tasks[t] for t in group) for group in partition)


def enumeration(words: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)
