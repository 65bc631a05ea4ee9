"""What a survey finds: things that may be removed, and how much stays."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

CATEGORIES = {
    "cells": "finished cells that no study refers to",
    "files": "files of finished cells that no record names",
    "partial": "cells whose training was cut off while it was written down",
    "states": "in-flight states that will not be resumed",
    "claims": "claims of dead processes",
    "leftovers": "unfinished writes of dead processes",
    "late": "records written after a later driver took the study over",
    "local": "local files of drivers that were killed and of studies that are gone",
    "quarantine": "damaged records that were moved aside",
    "studies": "studies that were named",
    "caches": "what this machine derived and can derive again",
}

SETTLED = 3600.0
"""Seconds after which an unfinished write counts as abandoned, wherever its writer was."""

_TEMPORARY = re.compile(r"\..+\.(?:(\d+)\.[0-9a-f]{8}|[0-9a-f]{12})")
_PROBE = re.compile(r"\.writable-[0-9a-f]{12}")


@dataclass(frozen=True, kw_only=True)
class Removable:
    """Something that may go.

    Attributes:
        category: of ``CATEGORIES``.
        path: below the root; absolute for what lies elsewhere on this machine.
        size: bytes.
        reason: why it may go.
    """

    category: str
    path: str
    size: int
    reason: str


@dataclass
class Findings:
    """What may go, and number and bytes of what stays by kind."""

    items: list[Removable] = field(default_factory=list)
    kept: dict[str, tuple[int, int]] = field(default_factory=dict)

    def add(self, category: str, path: str, size: int, reason: str = "") -> None:
        """Something may go."""
        self.items.append(
            Removable(category=category, path=path, size=size, reason=reason or CATEGORIES[category])
        )

    def keep(self, kind: str, size: int, number: int = 1) -> None:
        """Something stays."""
        count, total = self.kept.get(kind, (0, 0))
        self.kept[kind] = (count + number, total + size)


def is_temporary(path: str) -> bool:
    """Whether a path is that of a write which is not finished."""
    name = path.rpartition("/")[2]
    patterns = (_TEMPORARY, _PROBE)
    return path.startswith(".check/") or any(pattern.fullmatch(name) for pattern in patterns)


def writer_of(path: str) -> int | None:
    """Process that makes an unfinished write, if its name says so."""
    found = _TEMPORARY.fullmatch(path.rpartition("/")[2])
    return int(found[1]) if found is not None and found[1] is not None else None
