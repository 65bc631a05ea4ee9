"""How records are written: JSON with a checksum of itself, and JSON followed by bytes for in-flight states.

A power cut or a full disk can leave a file that is there but not whole. Both forms notice it on reading. Both
say their format, the oldest that a reader must know: a later one than `NEWEST` is refused, never guessed at.

| format | since then |
|---|---|
| 1 | the first |
| 2 | a file of a cell lies where its entry's ``path`` says; without one under its own name |
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from datetime import UTC, datetime
from typing import Any

NEWEST = 2
"""The latest ``record_format`` that this version reads."""

_HEAD, _TAIL = b'{"sha256": "', b'",\n'
_MAGIC = b"mmap-state-1\n"
_STATE = re.compile(rb"mmap-state-(\d+)\n")


class CorruptError(Exception):
    """A file that is not what was written, or not what it should be."""


class NewerFormatError(CorruptError):
    """A record of a later version of this software: whole, but not to be read by this one.

    Args:
        found: its format.
    """

    def __init__(self, found: int, newest: int = NEWEST) -> None:
        super().__init__(
            f"a later version of this software wrote it (record_format {found}, this version reads up to "
            f"{newest})"
        )


def encode(document: dict[str, Any], *, record_format: int = 1) -> bytes:
    """JSON that begins with a checksum of the bytes behind it. Numbers that are not finite become null.

    Args:
        document: any dictionary without ``record_format``.
        record_format: the oldest format that its reader must know.
    """
    text = json.dumps(finite(document), ensure_ascii=False, allow_nan=False)
    body = _bytes(f'"record_format": {record_format}' + (", " + text[1:] if document else "}"))
    return _HEAD + digest(body).encode() + _TAIL + body


def _bytes(text: str) -> bytes:
    """JSON as UTF-8; what that cannot hold (parts of file names that are no UTF-8) as JSON's own escapes."""
    return text.encode("utf-8", "backslashreplace")


def decode(data: bytes) -> dict[str, Any]:
    """The document that ``encode`` was given.

    Raises:
        CorruptError: truncated, not ours, or changed since.
        NewerFormatError: of a later version.
    """
    start = len(_HEAD) + 64 + len(_TAIL)
    if not data.startswith(_HEAD) or digest(data[start:]).encode() != data[len(_HEAD) : start - len(_TAIL)]:
        raise CorruptError(f"its checksum does not match its {len(data)} bytes")
    try:
        document: dict[str, Any] = json.loads(b"{" + data[start:])
        found = document.pop("record_format")
    except (ValueError, KeyError) as error:
        raise CorruptError("not a record") from error
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise CorruptError(f"{found!r} is not a record_format")
    if found > NEWEST:
        raise NewerFormatError(found)
    return document


def encode_state(header: dict[str, Any], payload: bytes) -> bytes:
    """A JSON header and opaque bytes, both under one checksum."""
    text = _bytes(json.dumps(finite(header), ensure_ascii=False, allow_nan=False))
    body = len(text).to_bytes(8, "big") + text + payload
    return _MAGIC + hashlib.sha256(body).digest() + body


def decode_state(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and payload of ``encode_state``. Raises CorruptError; NewerFormatError of a later version."""
    if (magic := _STATE.match(data)) is not None and int(magic[1]) > 1:
        raise NewerFormatError(int(magic[1]), 1)
    start = len(_MAGIC) + 32
    body = data[start:]
    if data[: len(_MAGIC)] != _MAGIC or hashlib.sha256(body).digest() != data[len(_MAGIC) : start]:
        raise CorruptError(f"not a whole in-flight state ({len(data)} bytes)")
    length = int.from_bytes(body[:8], "big")
    return json.loads(body[8 : 8 + length]), body[8 + length :]


def digest(data: bytes) -> str:
    """SHA-256, 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def finite(value: Any) -> Any:
    """A copy that JSON can hold: tuples become lists, keys text, and numbers that are not finite None."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [finite(item) for item in value]
    return value


def now() -> str:
    """The time as UTC ISO 8601 with microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds")
