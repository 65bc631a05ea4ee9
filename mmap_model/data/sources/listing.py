"""What lies in the folders of a tree: class folders, images by content, and everything else by its name.

Nothing is left out without a word, except hidden files and what systems and archivers leave behind.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from mmap_model.data.faults import Fault
from mmap_model.data.formats import HEAD, known_image, other_file
from mmap_model.data.sources.files import EXTENSIONS, ImageFile, is_image
from mmap_model.errors import DatasetError
from mmap_model.paths import is_folder

PARTS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})
"""Names of folders, in lower case, that divide images and are no classes and no domains."""

TESTED = frozenset({"test", "testing"})

_LEFT_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})
_LEFT_FOLDERS = frozenset({"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"})
"""What Windows, macOS and storage boxes leave in folders, in lower case."""


def subfolders(path: Path) -> list[str]:
    """Names of the folders in a folder, sorted, without hidden ones and what systems leave.

    Raises:
        DatasetError: the folder cannot be read.
    """
    with _entries(path) as entries:
        return sorted(e.name for e in entries if not _is_left(e.name) and _is_folder(e))


def image_files(
    root: Path, relative: str, faults: list[Fault] | None = None, task: str = ""
) -> list[ImageFile]:
    """Images of one folder, sorted by name: those with a usual extension, others by their content.

    Args:
        root, relative: the folder is ``root / relative``.
        faults: takes what else lies there, if it is wanted.
        task: that the folder belongs to.

    Raises:
        DatasetError: the folder cannot be read.
    """
    looked = _look(root, relative)
    if faults is not None:
        faults += looked.faults(root / relative, task)
    return sorted(looked.images, key=lambda image: image.name)


def strays(root: Path, relative: str, task: str = "") -> Iterator[Fault]:
    """What lies beside the folders of a folder that should hold nothing else: images and broken links."""
    looked = _look(root, relative)
    if looked.images:
        yield Fault("stray", _counted([i.name for i in looked.images], "images"), str(root / relative), task)
    if looked.broken:
        yield Fault("broken_link", _counted(looked.broken, "links"), str(root / relative), task)


def holds_images(path: Path) -> bool:
    """Whether images lie in the folder itself."""
    with _entries(path) as entries:
        return any(
            _is_file(e) and (is_image(e.name) or _is_image(path / e.name))
            for e in entries
            if not _is_left(e.name)
        )


def image_sizes(root: Path, relative: str) -> dict[str, int]:
    """Bytes of all files of one folder by their path relative to the root; empty without the folder."""
    if not is_folder(root / relative):
        return {}
    with _entries(root / relative) as entries:
        return {f"{relative}/{e.name}": e.stat().st_size for e in entries if _is_file(e)}


def parts_of(domain: Path) -> list[str]:
    """The folders that divide a domain (``train``, ``val``, ``test``), or ``[""]`` where it holds classes.

    A class may be called ``test``: what holds images itself is a class.
    """
    inside = subfolders(domain)
    divided = inside and {name.lower() for name in inside} <= PARTS
    return inside if divided and not any(holds_images(domain / name) for name in inside) else [""]


def named(found: Sequence[ImageFile], part: str, others: Sequence[ImageFile]) -> list[ImageFile]:
    """Images of one part of a class; a name that another part has too takes the part into it."""
    taken = {image.name for image in others}
    return [replace(i, name=f"{part}-{i.name}") if i.name in taken else i for i in found]


@dataclass
class _Looked:
    """What a folder holds, by name, that is neither hidden nor left there by a system."""

    images: list[ImageFile] = field(default_factory=list)
    by_content: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    other: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)

    def faults(self, place: Path, task: str) -> Iterator[Fault]:
        if self.by_content:
            extensions = sorted({Path(name).suffix or "no extension" for name in self.by_content})
            problem = f"{_counted(self.by_content, 'images')} ({', '.join(extensions[:4])})"
            yield Fault("by_content", problem, str(place), task)
        if self.broken:
            yield Fault("broken_link", _counted(self.broken, "links"), str(place), task)
        if self.folders:
            yield Fault("nested", _counted(self.folders, "folders"), str(place), task)
        for (kind, fix), names in sorted(self.other.items()):
            problem = f"{_counted(names, 'files')}: {kind}; {fix}"
            yield Fault("other_format", problem, str(place), task)
        if self.unknown:
            yield Fault("not_image", _counted(self.unknown, "files"), str(place), task)


def _look(root: Path, relative: str) -> _Looked:
    looked = _Looked()
    with _entries(root / relative) as entries:
        for entry in entries:
            if not _is_left(entry.name):
                _sort_in(looked, entry, root, f"{relative}/{entry.name}".removeprefix("/"))
    return looked


def _sort_in(looked: _Looked, entry: os.DirEntry[str], root: Path, path: str) -> None:
    if _is_folder(entry):
        looked.folders.append(entry.name)
    elif not _is_file(entry):
        (looked.broken if entry.is_symlink() else looked.unknown).append(entry.name)
    elif is_image(entry.name):
        looked.images.append(ImageFile(entry.name, path, entry.stat().st_size))
    elif _is_image(root / path):
        looked.images.append(ImageFile(entry.name, path, entry.stat().st_size))
        looked.by_content.append(entry.name)
    elif (other := _other(root / path)) is not None:
        looked.other.setdefault(other, []).append(entry.name)
    else:
        looked.unknown.append(entry.name)


def _is_image(path: Path) -> bool:
    try:
        return known_image(path)
    except OSError:
        return False


def _other(path: Path) -> tuple[str, str] | None:
    try:
        with path.open("rb") as file:
            return other_file(file.read(HEAD), path.name)
    except OSError as error:
        return f"cannot be read ({error.strerror})", "make it readable or remove it"


def _is_left(name: str) -> bool:
    return name.startswith(".") or name.lower() in _LEFT_FILES or name.lower() in _LEFT_FOLDERS


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links in a circle
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


@contextmanager
def _entries(path: Path) -> Iterator[Iterator[os.DirEntry[str]]]:
    """What lies in a folder. Raises DatasetError where it cannot be read."""
    try:
        with os.scandir(path) as entries:
            yield entries
    except OSError as error:
        raise DatasetError(
            f"{error.filename or path} cannot be read: {error.strerror}",
            where="dataset.root",
            fix="make it readable, or remove it",
        ) from error


def _counted(names: Sequence[str], what: str) -> str:
    """E.g. ``12 files such as 'a.heic'``, ``1 link: 'b'``."""
    first = min(names)
    return f"1 {what[:-1]}: {first!r}" if len(names) == 1 else f"{len(names)} {what} such as {first!r}"


USUAL = ", ".join(sorted(EXTENSIONS))
"""Extensions that are believed without a look into the file."""
