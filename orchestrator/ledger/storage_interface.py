"""Where records lie: one small set of operations on a local folder or on any file system of ``pyarrow.fs``.

Paths are relative to the root, with ``/`` between their parts. A write is atomic: a reader sees the old
content, the new content or nothing, never a part. Names that begin with a dot belong to unfinished writes
and are never listed. A path that would leave the root is refused: names come from records that others may
write.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from mmap_model.errors import InputError
from orchestrator.redaction import shown_uri


class StorageError(InputError):
    """A storage location that cannot be understood, read or written."""


@dataclass(frozen=True)
class StorageEntry:
    """A file as a listing shows it: path below the root, bytes, seconds since 1970 when it was written."""

    path: str
    size: int
    modified: float


class Storage(ABC):
    """Files below one root.

    Attributes:
        root: the location as it opens again: an absolute path, or a URI with whatever it was given.
        exclusive: ``create`` is decided by the file system. Where it is False two simultaneous callers of
            ``create`` may both be told True; what is built on it must settle who was last.
    """

    root: str
    exclusive: bool

    @abstractmethod
    def read(self, path: str) -> bytes | None:
        """Content of a file, or None if there is none."""

    @abstractmethod
    def write(self, path: str, data: bytes) -> None:
        """Create or replace a file atomically; folders come into being as needed."""

    @abstractmethod
    def create(self, path: str, data: bytes) -> bool:
        """Write a file unless it exists; False if it did."""

    @abstractmethod
    def delete(self, path: str) -> None:
        """Remove a file or a whole folder; nothing happens if there is none."""

    @abstractmethod
    def move(self, path: str, target: str) -> None:
        """Rename a file or folder. On object stores a folder is moved file by file."""

    @abstractmethod
    def names(self, folder: str) -> list[str]:
        """Sorted names in a folder; empty if it does not exist. One listing, no look at the single files."""

    @abstractmethod
    def files(self, folder: str) -> Iterator[str]:
        """Paths, relative to ``folder``, of all files at any depth below it, by listings alone."""

    @abstractmethod
    def everything(self) -> Iterator[StorageEntry]:
        """All files below the root, unfinished and hidden ones too: for housekeeping, not for reading."""

    def locate(self, path: str) -> str:
        """The absolute path or URI of ``path``, for people and for links: no credentials, no options."""
        shown = shown_uri(self.root).rstrip("/")
        return f"{shown}/{path}" if path else shown


def inside(path: str) -> str:
    """``path`` if it stays below the root it is relative to.

    Raises:
        StorageError: it is absolute or climbs.
    """
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\0" in path:
        raise StorageError(f"{path!r} leads out of the storage", where="storage", fix="use plain names")
    return path
