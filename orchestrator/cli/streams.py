"""What is printed reaches every terminal and every pipe, whatever their encoding.

Names of files are UTF-8 whatever the locale. Characters that an output stream does not have are written as
the nearest ones that it has, and those of names as escapes, which tell equal names apart.
"""

from __future__ import annotations

import codecs
import io
import os
import sys

HANDLER = "mmap.readable"

_NEAREST = {
    **dict.fromkeys("−–—‐", "-"),
    **dict.fromkeys("│┃║", "|"),
    **dict.fromkeys("─━═", "-"),
    **dict.fromkeys("╭╮╰╯┌┐└┘├┤┬┴┼┏┓┗┛┡┩╇╈", "+"),
    **dict.fromkeys("•▸▹●○", "*"),
    **dict.fromkeys("‘’", "'"),
    **dict.fromkeys("“”", '"'),
    **dict.fromkeys("\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}", " "),
    "±": "+/-",
    "×": "x",
    "·": "-",
    "≈": "~",
    "≥": ">=",
    "≤": "<=",
    "…": "...",
    "→": "->",
    "←": "<-",
    "↑": "^",
    "↓": "v",
    "²": "^2",
    "³": "^3",
    "√": "sqrt",
    "Δ": "Delta",
    "Σ": "Sum",
    "σ": "sigma",
    "ν": "nu",
    "χ": "chi",
    "φ": "phi",
    "†": "+",
}


def readable(error: UnicodeError) -> tuple[str, int]:
    """Error handler of an encoder: the nearest characters that are in ASCII."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_nearest, error.object[error.start : error.end])), error.end


def prepare_streams() -> None:
    """Let standard output and error take every character. Starts Python again where names are not UTF-8.

    Without UTF-8 as the encoding of file names one image has different names on two machines.
    """
    if sys.getfilesystemencoding() != "utf-8":
        encoding = getattr(sys.stdout, "encoding", None) or "ascii"
        os.environ["PYTHONUTF8"] = "1"
        os.environ.setdefault("PYTHONIOENCODING", f"{encoding}:backslashreplace")
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=HANDLER)


def _nearest(character: str) -> str:
    if 0xDC80 <= ord(character) <= 0xDCFF:  # a byte of a name that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return _NEAREST.get(character) or character.encode("ascii", "backslashreplace").decode("ascii")


codecs.register_error(HANDLER, readable)
