"""How records are written: JSON with a checksum of itself, and JSON followed by bytes for in-flight states.

A power cut or a full disk can leave a file that is there but not whole. Both forms notice it on reading.
"""

from __future__ import annotations

import hashlib
import json
import math
from datetime import UTC, datetime
from typing import Any

_HEAD, _TAIL, _FORMAT = b'{"sha256": "', b'",\n', '"record_format": 1'
_MAGIC = b"mmap-state-1\n"


class CorruptError(Exception):
    """A file that is not what was written."""


def encode(document: dict[str, Any]) -> bytes:
    """JSON that begins with a checksum of the bytes behind it. Numbers that are not finite become null."""
    text = json.dumps(finite(document), ensure_ascii=False, allow_nan=False)
    body = (_FORMAT + (", " + text[1:] if document else "}")).encode()
    return _HEAD + digest(body).encode() + _TAIL + body


def decode(data: bytes) -> dict[str, Any]:
    """The document that ``encode`` was given.

    Raises:
        CorruptError: truncated, not ours, or changed since.
    """
    start = len(_HEAD) + 64 + len(_TAIL)
    if not data.startswith(_HEAD) or digest(data[start:]).encode() != data[len(_HEAD) : start - len(_TAIL)]:
        raise CorruptError(f"its checksum does not match its {len(data)} bytes")
    document: dict[str, Any] = json.loads(b"{" + data[start:])
    del document["record_format"]
    return document


def encode_state(header: dict[str, Any], payload: bytes) -> bytes:
    """A JSON header and opaque bytes, both under one checksum."""
    text = json.dumps(finite(header), ensure_ascii=False, allow_nan=False).encode()
    body = len(text).to_bytes(8, "big") + text + payload
    return _MAGIC + hashlib.sha256(body).digest() + body


def decode_state(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and payload of ``encode_state``. Raises CorruptError."""
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
