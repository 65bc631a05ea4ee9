"""Which settings of a study differ between its trials, and which they share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.study.model import Study

COLUMN = "column"
"""Kind of the rows of a comparison."""


def flat(point: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings of a point, ``Point.to_dict()``, under dotted names such as ``recipe.lr``."""
    found: dict[str, Any] = {}
    for name, value in point.items():
        if isinstance(value, Mapping):
            found.update(flat(value, f"{prefix}{name}."))
        else:
            found[f"{prefix}{name}"] = value
    return found


def varying(study: Study) -> tuple[str, ...]:
    """Dotted names of what the search spaces of a study set, in their order."""
    return tuple(dict.fromkeys(key for space in study.spaces() for key in space.writes()))


def fixed(study: Study) -> dict[str, Any]:
    """Settings that all trials of a study share, by dotted name."""
    searched = varying(study)
    return {name: value for name, value in flat(study.point.to_dict()).items() if name not in searched}
