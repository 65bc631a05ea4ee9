"""The longest side of a source's images, from their headers, read once on a machine and not beyond need."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from mmap_model.data.sources.base import Source

_CHUNK = 512


def longest_side(source: Source, cache_dir: Path, *, enough: int) -> int:
    """The longest side in pixels of all images, or of the first found that have ``enough``.

    Images that cannot be decoded count as 0. What was found is kept in ``cache_dir``, by the manifest.
    """
    path = cache_dir / "extents" / f"{source.manifest}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(path.read_text(encoding="utf-8"))
        if known["whole"] or known["longest"] >= enough:
            return int(known["longest"])
    longest, whole = _read(source, enough)
    # A cache: where it cannot be written, the headers are read again.
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps({"longest": longest, "whole": whole}), encoding="utf-8")
        partial.replace(path)
    return longest


def _read(source: Source, enough: int) -> tuple[int, bool]:
    """The longest side found, and whether all images were looked at."""
    longest = 0
    for task in source.tasks:
        order = source.reading_order(task.name)
        for start in range(0, len(order), _CHUNK):
            found = source.extents(task.name, order[start : start + _CHUNK])
            longest = max(longest, int(found.max(initial=0)))
            if longest >= enough:
                return longest, False
    return longest, True
