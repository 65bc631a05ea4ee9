"""Rows of a ranking that do not compare: trained on other images or with other weights.

A study is not continued with others now, and no worker trains with them. Earlier versions compared nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

NAMED = 5
"""Rows that are named where more share their origin."""

DIGITS = 8
"""Of a hash, as shown."""


def mixed_origins(
    rows: Iterable[tuple[str, Iterable[str]]], records: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Say which rows come from which images and weights, one line each; empty if all from the same.

    Args:
        rows: with their cells' keys; as they are called, such as ``trial 3``.
        records: of finished cells by key.
    """
    found = rows_by_inputs(rows, records)
    if len(found) < 2:
        return []
    origins = Counter(row for named in found.values() for row in named)
    lines = ["these rows come from different images or weights, so their means do not compare"]
    for (images, weights), named in found.items():
        shown = [f"{row} (in part)" if origins[row] > 1 else row for row in [*named][:NAMED]]
        more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
        lines.append(f"images {images[:DIGITS]}, weights {weights[:DIGITS]}: {', '.join(shown)}{more}")
    return lines


def rows_by_inputs(
    rows: Iterable[tuple[str, Iterable[str]]], records: Mapping[str, Mapping[str, Any]]
) -> dict[tuple[str, str], dict[str, None]]:
    """Return the names of rows, in order, by (manifest, fingerprint) of their finished cells."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for row, keys in rows:
        for key in keys:
            cell = records.get(key, {}).get("cell")
            if cell is not None:
                found.setdefault((cell["dataset"], cell["backbone"]), {})[row] = None
    return found
