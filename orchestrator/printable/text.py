"""Text as a terminal can show it: what would command the terminal stands there as a visible character.

Names of classes, files and keys come from strangers. An escape sequence in one could move the cursor, hide or
forge lines, set the window's title or fill the clipboard.
"""

from __future__ import annotations

UNKNOWN = "\N{REPLACEMENT CHARACTER}"

_KEPT = "\n\t"
_TABLE = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in _KEPT}
_TABLE |= {0x7F: "\N{SYMBOL FOR DELETE}"}
_TABLE |= dict.fromkeys(range(0x80, 0xA0), UNKNOWN)  # 0x9b begins a sequence as ESC [ does
_TABLE |= dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)], UNKNOWN)
_TABLE |= dict.fromkeys(range(0xD800, 0xE000), UNKNOWN)
_TABLE |= {0xDC00 + byte: f"\\x{byte:02x}" for byte in range(0x80, 0x100)}
"""Control characters, those that turn the direction of what follows, and bytes that are not UTF-8."""


def printable(text: str) -> str:
    """``text`` with line breaks and tabs, and a symbol or an escape for what a terminal cannot show.

    >>> printable("a\\x1b[2Jb")
    'a␛[2Jb'
    """
    return text.translate(_TABLE)
