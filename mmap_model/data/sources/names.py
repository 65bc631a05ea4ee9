"""Names of tasks, classes and images that records, lists and prompts can hold."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from mmap_model.data.faults import Fault
from mmap_model.data.sources.base import Source

CHUNK = 10_000
"""Names that are looked at together: nearly always all of them are in order."""


def unusable_names(source: Source) -> Iterator[Fault]:
    """Names that are not UTF-8 or hold control characters, and classes without a name.

    A name that is not UTF-8 is another name on another machine, and no record can hold it.
    """
    for task in source.tasks:
        if problem := _problem(task.name) or _blank(task.name):
            yield Fault("bad_name", f"the task's name {problem}", shown(task.name), shown(task.name))
        for key, name in zip(source.class_keys(task.name), task.classes, strict=True):
            problem = _problem(key) or _problem(name) or _blank(name)
            if problem:
                yield Fault("bad_name", f"the class's name {problem}", f"{task.name}/{key}", task.name)
        ids = source.ids(task.name)
        for start in range(0, len(ids), CHUNK):
            if "".join(ids[start : start + CHUNK]).isprintable():
                continue
            for index in range(start, min(start + CHUNK, len(ids))):
                if problem := _problem(ids[index].rpartition("/")[2]):
                    size = int(source.sizes(task.name)[index])
                    where = source.location(task.name, index)
                    yield Fault("bad_name", f"the image's name {problem}", where, task.name, ids[index], size)


def shown(name: str) -> str:
    """A name with its unusable characters as escapes."""
    return "".join(c if _usable(c) else ascii(c)[1:-1] for c in name)


def _problem(name: str) -> str | None:
    if name.isprintable():
        return None
    for character in name:
        if "\udc80" <= character <= "\udcff":
            return f"is not UTF-8: it holds the byte 0x{ord(character) - 0xDC00:02X}"
        if not _usable(character):
            return f"holds the control character {character!a}"
    return None


def _blank(name: str) -> str | None:
    return None if name.strip() else "is blank"


def _usable(character: str) -> bool:
    return unicodedata.category(character) not in ("Cc", "Cs")
