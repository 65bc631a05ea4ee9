"""Names that other systems write in another way, so that a copy of the images has other draws and keys."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

from mmap_model.data.faults import Fault
from mmap_model.data.sources.base import Source

_FORBIDDEN = frozenset('<>:"|?*\\')
_DEVICES = frozenset(
    ["con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))]
)


def portable_names(source: Source) -> Iterator[Fault]:
    """Names that macOS, Windows or an archive change, and names that they take for one."""
    for task in source.tasks:
        keys = source.class_keys(task.name)
        yield from _judge((task.name,), task.name, task.name)
        yield from _judge(keys, f"{task.name}", task.name)
        images: dict[str, list[str]] = {}
        for image in source.ids(task.name):
            folder, _, name = image.rpartition("/")
            images.setdefault(folder, []).append(name)
        for folder, names in images.items():
            yield from _judge(names, folder, task.name)


def _judge(names: Sequence[str], place: str, task: str) -> Iterator[Fault]:
    """Faults of names that lie in one folder."""
    seen: dict[str, str] = {}
    for name in names:
        if problem := _change(name):
            yield Fault("portable", f"{name!r} {problem}", place, task)
        alike = unicodedata.normalize("NFC", name).casefold()
        if (other := seen.setdefault(alike, name)) != name:
            yield Fault("portable", f"{name!r} and {other!r} are one name on macOS and Windows", place, task)


def _change(name: str) -> str | None:
    """What another system does to a name."""
    if name.isascii() and name.isalnum():
        return "is a device on Windows" if name.lower() in _DEVICES else None
    if not unicodedata.is_normalized("NFC", name):
        return "is in decomposed characters, as macOS writes them; elsewhere it is another name"
    if found := sorted(_FORBIDDEN & {*name}):
        return f"holds {' '.join(found)}, which Windows does not allow"
    if name != name.strip(" ") or name.endswith("."):
        return "begins or ends with a space or a full stop, which Windows and lists remove"
    return "is a device on Windows" if name.partition(".")[0].lower() in _DEVICES else None
