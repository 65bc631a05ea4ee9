"""Seeds and shots as people write them: ``1,2,3``, ``1 2 3`` or ``1-3``."""

from __future__ import annotations

import re

from orchestrator.study.errors import StudyError

MOST = 10_000
"""Numbers of a list; a slip such as ``1-30000000`` is refused before it fills the memory."""
_NUMBERS = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*,?")
_FIX = "write them as 1,2,3 or 1-3"


def are_numbers(word: str) -> bool:
    """Return whether a word of a command line goes on a list of numbers."""
    return bool(_NUMBERS.fullmatch(word))


def read_numbers(text: str, where: str) -> list[int]:
    """Return the numbers of a list, >= 0, in its order; ranges hold both of their ends.

    Args:
        text: numbers and ranges, with commas or spaces between them.
        where: key or option, for errors.

    Raises:
        StudyError: something in it is no number of 0 or more, a range falls, or there are too many.
    """
    found: list[int] = []
    for part in re.split(r"[,\s]+", text.strip(", \t\n")):
        ends = re.fullmatch(r"(\d{1,20})(?:-(\d{1,20}))?", part)
        if ends is None:
            raise StudyError(f"{part or text!r} is not a number", where=where, fix=_FIX)
        first, last = int(ends[1]), int(ends[2] or ends[1])
        if last < first:
            raise StudyError(f"the range {part} falls", where=where, fix=f"write {last}-{first}")
        if last - first + len(found) >= MOST:
            raise StudyError(f"{part} makes more than {MOST} numbers", where=where, fix="give fewer")
        found += range(first, last + 1)
    return found
