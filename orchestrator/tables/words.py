"""Numbers, durations and configurations as people read them."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.tables.model import NONE

NBSP = "\N{NO-BREAK SPACE}"
"""Keeps the parts of one thing on one line."""

MINUS = "\N{MINUS SIGN}"

SYMBOLS = {
    "prompt_length": "b",
    "source_rows": "m",
    "source_cols": "n",
    "groups": "G",
    "scale_init": "σ",
    "lr": "lr",
    "snapshot_every": "every",
    "warmup_epochs": "warm-up",
    "weight_decay": "wd",
}
"""Short forms of parameter names, as in the paper; other names stand in full."""

SPEAKING = ("column", "regime", "split", "similarity", "objective", "space", "schedule", "mode")
"""Parameters whose value is a word that needs no name before it."""

ARROWS = {"low": "↓", "high": "↑"}
"""Behind a tuned rate at the end of its range: the direction in which a better one may lie."""


def configuration(values: Mapping[str, Any]) -> str:
    """``b4 m2 n16, lr 0.023, σ 0.02, cosine`` of resolved parameter names and values."""
    shape = [
        f"{SYMBOLS[name]}{values[name]}"
        for name in ("prompt_length", "source_rows", "source_cols")
        if name in values
    ]
    parts = [" ".join(shape)] if shape else []
    for name, value in values.items():
        if name in ("prompt_length", "source_rows", "source_cols"):
            continue
        if name in SPEAKING:
            parts.append(str(value).replace("_", " "))
        elif name == "groups" and value is None:
            parts.append("G auto")
        elif name == "scale_init" and value is None:
            parts.append("σ auto")
        else:
            parts.append(f"{SYMBOLS.get(name, name)} {_value(value)}")
    return ", ".join(part.replace(" ", NBSP) for part in parts) or "as fixed"


def integer(number: int | None) -> str:
    """``129 744``."""
    return NONE if number is None else f"{number:,}".replace(",", NBSP)


def counted(number: int, noun: str) -> str:
    """Return ``1 split`` or ``2 splits``."""
    return f"{integer(number)} {noun}{'s' * (number != 1)}"


def short_integer(number: int | None) -> str:
    """``8 192``, ``129.7k``, ``4.78M``, ``149.62M``: exact below 100 000."""
    if number is not None and number >= 999_950:
        return f"{number / 1e6:.2f}M"
    return integer(number) if number is None or number < 100_000 else f"{number / 1e3:.1f}k"


def share(fraction: float | None) -> str:
    """``0.087 %`` of a fraction."""
    if fraction is None:
        return NONE
    percent = 100 * fraction
    digits = 0 if percent >= 10 or percent == 0 else 2 if percent >= 0.1 else 3
    return f"{percent:.{digits}f}{NBSP}%"


def short_share(fraction: float) -> str:
    """``0.087%`` with two significant digits, ``100%``; a dash for nothing."""
    if not fraction:
        return NONE
    percent = 100 * fraction
    return f"{percent:.0f}%" if percent >= 9.95 else f"{percent:.2g}%"


def chance(probability: float) -> str:
    """``64 %`` of a probability; ``< 1 %`` and ``> 99 %`` near its ends."""
    if 0 < probability < 0.01:
        return f"<{NBSP}1{NBSP}%"
    if 0.99 < probability < 1:
        return f">{NBSP}99{NBSP}%"
    return f"{100 * probability:.0f}{NBSP}%"


def size(count: float) -> str:
    """``21.1 GB``, in powers of 1000."""
    units = ("bytes", "kB", "MB", "GB", "TB")
    power = 0
    while count >= 999.5 and power < len(units) - 1:
        count, power = count / 1000, power + 1
    return f"{count:.{0 if power == 0 or count >= 99.5 else 1}f}{NBSP}{units[power]}"


def accuracy(mean: float | None, std: float | None = None) -> str:
    """``46.2 ± 0.8`` in per cent, of fractions; the parts that are known."""
    if mean is None:
        return NONE
    return f"{100 * mean:.1f}" if std is None else f"{100 * mean:.1f} ± {100 * std:.1f}"


def signed(fraction: float | None, digits: int = 1) -> str:
    """``+0.3`` or ``−1.2`` points of a difference of fractions; a rounded zero has no sign."""
    if fraction is None:
        return NONE
    text = f"{100 * fraction:+.{digits}f}"
    return f"{0:.{digits}f}" if float(text) == 0 else text.replace("-", MINUS)


def interval(low: float | None, high: float | None, digits: int = 1) -> str:
    """``−0.4 to +1.9`` points of fractions; a dash if it is open."""
    return NONE if low is None or high is None else f"{signed(low, digits)} to {signed(high, digits)}"


def rate(lr: float | None, edge: str | None = None) -> str:
    """``0.0035``, ``2e-5``, with an arrow at the end of the range."""
    return NONE if lr is None else f"{lr:.3g}".replace("e-0", "e-") + ARROWS.get(edge or "", "")


def duration(seconds: float | None) -> str:
    """``0.2 s``, ``42 s``, ``3 min 05 s``, ``2 h 07 min``, ``3 d 4 h``."""
    if seconds is None:
        return NONE
    if 0 < seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def short_duration(seconds: float) -> str:
    """``173 s``, ``12 min``, ``3.1 h``: at most seven characters; a dash for nothing."""
    if not seconds:
        return NONE
    if seconds < 995:
        return f"{seconds:.{1 if seconds < 9.95 else 0}f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5970 else f"{seconds / 3600:.1f} h"


def partition(groups: Sequence[Sequence[int]] | None, tasks: Sequence[str] = ()) -> str:
    """``clipart+photo | painting+sketch`` of task indices."""
    names = tasks or [str(t) for t in range(sum(map(len, groups or ())))]
    return " | ".join("+".join(names[t] for t in group) for group in groups or ()) or NONE


def enumeration(words: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def printable(text: str) -> str:
    """Text without the control characters that would steer a terminal."""
    return "".join(c for c in text if c == "\n" or unicodedata.category(c) != "Cc")


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.2g}" if isinstance(value, float) else str(value)
