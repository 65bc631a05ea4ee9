"""What a machine keeps for a while: bounded in size, least recently used goes first."""

from __future__ import annotations

import contextlib
import os
import shutil
from math import inf
from pathlib import Path

from mmap_model.errors import DatasetError

LIMIT_VARIABLE = "MMAP_CACHE_GB"
DEFAULT_LIMIT_GB = 100.0


def cache_limit() -> int:
    """Bytes that each sort of cached thing may take: ``$MMAP_CACHE_GB``, or 100 GB. Raises DatasetError."""
    text = os.environ.get(LIMIT_VARIABLE)
    try:
        limit = DEFAULT_LIMIT_GB if text is None else float(text)
        if not 0 < limit < inf:
            raise ValueError
    except ValueError:
        raise DatasetError(
            f"{text!r} is not a size", where=LIMIT_VARIABLE, fix="give a number of gigabytes, e.g. 100"
        ) from None
    return int(limit * 1e9)


def touch(entry: Path) -> None:
    """Note that an entry is in use."""
    with contextlib.suppress(OSError):
        os.utime(entry)


def make_room(folder: Path, *, keep: Path, needed: int = 0) -> int:
    """Remove the least recently used entries of ``folder`` until all of them and ``needed`` fit the limit.

    An entry is a file or folder; its time of use is its time of change. Removing one that another process has
    mapped is safe: its pages stay until they are let go, and what it asks for next is made again. Entries
    named in ``.lock`` and unfinished ones are left alone.

    Args:
        folder: of entries of one sort.
        keep: an entry that stays whatever happens.
        needed: bytes about to be added to it.

    Returns:
        Bytes by which the limit is still exceeded, or 0.
    """
    entries = [e for e in folder.iterdir() if e.suffix not in (".lock", ".partial")]
    sizes, times = {}, {}
    for entry in entries:
        with contextlib.suppress(FileNotFoundError):
            sizes[entry], times[entry] = size_of(entry), entry.stat().st_mtime_ns
    excess = sum(sizes.values()) + needed - cache_limit()
    for entry in sorted(sizes, key=lambda e: times[e]):
        if excess <= 0:
            break
        if entry != keep:
            _remove(entry)
            excess -= sizes[entry]
    return max(0, excess)


def size_of(entry: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    if entry.is_file():
        return entry.stat().st_size
    return sum(path.stat().st_size for path in entry.rglob("*") if path.is_file())


def _remove(entry: Path) -> None:
    if entry.is_dir():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)
