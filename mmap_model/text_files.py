"""Text that people bring in files: UTF-8, with or without a byte-order mark. Nothing else is guessed."""

from __future__ import annotations

import codecs
import json
import shlex
from pathlib import Path
from typing import Any

from mmap_model.errors import InputError

_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


def read_text(path: Path, where: str, error: type[InputError], *, most: int | None = None) -> str:
    """The text of a file, its line ends as ``\\n``.

    Args:
        path: of the file.
        where: the key or option that names it, for messages.
        error: what to raise.
        most: bytes that such a file may have.

    Raises:
        InputError: of the type ``error``: it cannot be read, is too large, or is not UTF-8; says which
            encoding it seems to have and how to convert it.
    """
    try:
        if most is not None and (size := path.stat().st_size) > most:
            raise error(
                f"{path} has {size} bytes, and {most} are the most",
                where=where,
                fix="is this the right file?",
            )
        encoded = path.read_bytes()
    except OSError as failure:
        raise error(
            f"{path} cannot be read: {failure.strerror or failure}", where=where, fix="give a readable file"
        ) from failure
    return decode_text(encoded, str(path), where, error)


def decode_text(encoded: bytes, name: str, where: str, error: type[InputError]) -> str:
    """The text of bytes, as `read_text` gives it; ``name`` is the file's."""
    encoded = encoded.removeprefix(codecs.BOM_UTF8)
    for mark, encoding in _MARKS:
        if encoded.startswith(mark):
            raise _not_utf8(name, f"is {encoding} text, not UTF-8", encoding, where, error)
    try:
        text = encoded.decode("utf-8")
    except UnicodeDecodeError as failure:
        if b"\0" in encoded:
            raise _binary(name, encoded, where, error) from None
        line = encoded.count(b"\n", 0, failure.start) + 1
        problem = (
            f"is not UTF-8 text: line {line} holds the byte 0x{encoded[failure.start]:02X}, "
            "as Windows-1252 or Latin-1 text does"
        )
        raise _not_utf8(name, problem, "WINDOWS-1252", where, error) from None
    if "\0" in text:
        raise _binary(name, encoded, where, error)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_json(path: Path, where: str, error: type[InputError], *, most: int | None = None) -> Any:
    """The document of a JSON file; errors as of `read_text`, or that it is not JSON."""
    return decode_json(read_text(path, where, error, most=most), str(path), where, error)


def decode_json(text: str, name: str, where: str, error: type[InputError]) -> Any:
    """The document of a JSON text.

    Raises:
        InputError: of the type ``error``: it is not JSON, is nested too deeply, or holds ``NaN`` or the like.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as failure:
        reason = "it is nested too deeply" if isinstance(failure, RecursionError) else str(failure)
        raise error(f"{name} is not JSON: {reason}", where=where, fix="copy it again") from failure


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"it holds {name}")


def _binary(name: str, encoded: bytes, where: str, error: type[InputError]) -> InputError:
    """The error for bytes with zeros in them: UTF-16 without a mark has every other one zero."""
    start = encoded[:1000]
    if max(start[::2].count(0), start[1::2].count(0)) > len(start) // 4:
        return _not_utf8(name, "is UTF-16 text, not UTF-8", "UTF-16", where, error)
    line = encoded.count(b"\n", 0, encoded.index(b"\0")) + 1
    return error(
        f"{name} is not a text file: line {line} holds a zero byte",
        where=where,
        fix="is this the right file?",
    )


def _not_utf8(name: str, problem: str, encoding: str, where: str, error: type[InputError]) -> InputError:
    quoted = shlex.quote(name)
    return error(
        f"{name} {problem}",
        where=where,
        fix=f"save it as UTF-8, or convert it: iconv -f {encoding} -t UTF-8 {quoted} > converted",
    )
