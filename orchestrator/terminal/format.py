"""Numbers, durations and configurations as people read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NBSP = "\N{NO-BREAK SPACE}"
"""Keeps the parts of one thing on one line."""

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
    return "–" if number is None else f"{number:,}".replace(",", NBSP)


def share(fraction: float | None) -> str:
    """``0.087 %`` of a fraction."""
    if fraction is None:
        return "–"
    percent = 100 * fraction
    digits = 0 if percent >= 10 or percent == 0 else 2 if percent >= 0.1 else 3
    return f"{percent:.{digits}f}{NBSP}%"


def size(count: float) -> str:
    """``21.1 GB``, in powers of 1000."""
    units = ("bytes", "kB", "MB", "GB", "TB")
    power = 0
    while count >= 999.5 and power < len(units) - 1:
        count, power = count / 1000, power + 1
    return f"{count:.{0 if power == 0 or count >= 99.5 else 1}f}{NBSP}{units[power]}"


def accuracy(mean: float | None, std: float | None = None, n: int | None = None) -> str:
    """``46.2 ± 0.8 (3)`` in per cent, of fractions; the parts that are known."""
    if mean is None:
        return "–"
    text = f"{100 * mean:.1f}"
    if std is not None:
        text += f" ± {100 * std:.1f}"
    return text if n is None else f"{text} ({n})"


def duration(seconds: float | None) -> str:
    """``0.2 s``, ``42 s``, ``3 min 05 s``, ``2 h 07 min``, ``3 d 4 h``."""
    if seconds is None:
        return "–"
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


def partition(groups: Any, tasks: list[str] | None = None) -> str:
    """``clipart+photo | painting+sketch`` of task indices."""
    if not groups:
        return "–"
    names = tasks or [str(t) for t in range(sum(map(len, groups)))]
    return " | ".join("+".join(names[t] for t in group) for group in groups)


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.2g}" if isinstance(value, float) else str(value)
