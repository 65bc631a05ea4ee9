"""Names of runs, and names of metrics as MLflow takes them.

MLflow takes letters, digits, ``_ - . / :`` and blanks. ``R&D`` and ``R+D`` both become ``R_D`` by replacing
what it does not take; where that happens, a hash of the original tells them apart. A name that is alone with
its replacement keeps it, so what was told before keeps its name. Every backend is told these names.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from orchestrator.tracking.operations import Trial

SYMBOLS = {"prompt_length": "b", "source_rows": "m", "source_cols": "n", "scale_init": "σ_M"}
"""The paper's letters for settings that have one."""

LONGEST = 200
"""Characters of a task's or split's name; MLflow takes 250 with the metric's own name before it."""

TAG = "metric_name"
"""``metric_name/<name in MLflow>`` holds the original, for every name that is not the original itself."""


def trial_name(trial: Trial, point: Mapping[str, Any], partitions: Sequence[Any] = ()) -> str:
    """E.g. ``trial 3 · b=4 m=2 n=16 · G=2 · lr 0.0035``; another method than MmAP is named.

    A name that has parts already, as rows of a comparison have, stays as it is.
    """
    if isinstance(trial, str) and " · " in trial:
        return trial
    settings = dict(point.get("settings") or {})
    letters = [
        f"{short}={settings[long]}" for long, short in SYMBOLS.items() if settings.get(long) is not None
    ]
    groups = sorted({len(p) for p in partitions if p is not None})
    head = f"trial {trial}" if isinstance(trial, int) else trial.replace("_", " ").replace("zero ", "zero-")
    parts = [head, "" if point.get("method") in ("mmap", trial) else str(point.get("method", ""))]
    parts += [" ".join(letters), f"G={'/'.join(map(str, groups))}" if groups else ""]
    lr = (point.get("recipe") or {}).get("lr")
    if lr is not None and trial != "zero_shot":
        parts.append(f"lr {lr:.3g}")
    return " · ".join(part for part in parts if part)


def cell_name(cell: Mapping[str, Any]) -> str:
    """E.g. ``seed 1 · 3-shot``."""
    return f"seed {cell['seed']} · {cell['split']}"


def metric_name(name: str) -> str:
    """A name MLflow takes: letters, digits, ``_ - . / :`` and blanks; a percent sign is spelt out."""
    return re.sub(r"[^\w\-./: ]", "_", name.replace("%", "pct"))


def distinct_names(originals: Iterable[str]) -> dict[str, str]:
    """The name in MLflow of each original. Different originals have different names, in any order of them."""
    names = {original: _replaced(original) for original in originals}
    for digits in (8, 64):
        taken = _by_name(names)
        if all(len(group) == 1 for group in taken.values()):
            break
        for name, group in taken.items():
            if len(group) > 1:
                names |= {o: _with_hash(name, o, digits) for o in group if o != name}
    return names


def stated(originals: Iterable[str]) -> dict[str, str]:
    """Tags that say which original stands behind each name that differs from it."""
    return {
        f"{TAG}/{name}": original for original, name in distinct_names(originals).items() if name != original
    }


def _replaced(original: str) -> str:
    name = metric_name(original)[:LONGEST]
    if posixpath.normpath(f"of/{name}") != f"of/{name}":  # MLflow refuses what reads as another path
        name = re.sub(r"^\.+$", lambda dots: "_" * len(dots[0]), name.replace("/", "_")) or "_"
    return name


def _with_hash(name: str, original: str, digits: int) -> str:
    suffix = hashlib.sha256(original.encode()).hexdigest()[:digits]
    return f"{name[: LONGEST - digits - 1]}-{suffix}"


def _by_name(names: Mapping[str, str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for original, name in names.items():
        groups.setdefault(name, []).append(original)
    return groups
