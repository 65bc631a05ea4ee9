"""Where the files of a cell lie: under names that say their content.

Two workers may finish the same cell, with other bytes where their devices differ. Under plain names the files
of one would come to lie beside the record of the other; like this a record and its files are always of one
writer, whoever was last. Records of format 1 have plain names, and so have their files.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from orchestrator.ledger.documents import CorruptError, digest

NAMED_BY_CONTENT = 2
"""The ``record_format`` of records whose files' entries have a ``path``."""

_DIGITS = 16

ListedFile = Mapping[str, Any]
"""Of a file in a record: ``sha256``, ``bytes`` and, below the cell's folder, ``path``."""


def entry_of(name: str, data: bytes) -> dict[str, Any]:
    """The entry of a file ``name``: ``prompts.safetensors`` lies at ``prompts.<digits>.safetensors``."""
    plain, sha256 = PurePosixPath(name), digest(data)
    path = f"{plain.stem}.{sha256[:_DIGITS]}{plain.suffix}"
    return {"sha256": sha256, "bytes": len(data), "path": path}


def path_of(key: str, name: str, entry: ListedFile) -> str:
    """Path of a file below the storage's root."""
    return f"cells/{key}/{entry.get('path', name)}"


def names_of(record: Mapping[str, Any]) -> set[str]:
    """Names in the cell's folder of the files that a record refers to."""
    return {entry.get("path", name) for name, entry in record["files"].items()}


def format_of(record: Mapping[str, Any]) -> int:
    """The format that a reader of the record must know."""
    entries = [*record["files"].values(), *record.get("dropped", {}).values()]
    return NAMED_BY_CONTENT if any("path" in entry for entry in entries) else 1


def check_record(document: dict[str, Any], key: str) -> dict[str, Any]:
    """``document`` if it is a record of cell ``key``, of its training or of its test score.

    Raises:
        CorruptError: it is of another cell, or no such record, though its checksum is right.
    """
    check_key(document, key)
    files, dropped = document.get("files"), document.get("dropped", {})
    if not isinstance(files, dict) or not isinstance(dropped, dict):
        raise CorruptError("not a record of a cell: it names no files")
    for name, entry in [*files.items(), *dropped.items()]:
        whole = isinstance(entry, dict) and isinstance(entry.get("sha256"), str)
        place = entry.get("path", name) if whole else None
        if not isinstance(place, str) or "/" in place or place in ("", ".", ".."):
            raise CorruptError(f"not a record of a cell: its entry of {name!r} cannot be read")
    return document


def check_score(document: dict[str, Any], key: str) -> dict[str, Any]:
    """``document`` if it is the test score of cell ``key`` and has numbers.

    Earlier versions scored cells whose logits were not finite: the accuracy of these is that of a guess, and
    what was infinite or none became null.

    Raises:
        CorruptError: as ``check_record``, or a metric is null.
    """
    check_record(document, key)
    metrics = document.get("metrics") or {}
    if missing := [name for name, value in metrics.items() if value is None]:
        raise CorruptError(f"its {missing[0]} was not a finite number, so its accuracy means nothing")
    return document


def check_key(document: dict[str, Any], key: str) -> dict[str, Any]:
    """``document`` if it says that it is of cell ``key``. Raises CorruptError."""
    found = document.get("key")
    if found != key:
        whose = f"of cell {found[:12]}" if isinstance(found, str) and found else "of no cell"
        raise CorruptError(f"it is {whose}, not of {key[:12]}")
    return document
