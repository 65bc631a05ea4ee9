"""Where records lie: one small set of operations on a local folder or on any file system of ``pyarrow.fs``.

Paths are relative to the root, with ``/`` between their parts. A write is atomic: a reader sees the old
content, the new content or nothing, never a part. Names that begin with a dot belong to unfinished writes
and are never listed. A path that would leave the root is refused: names come from records that others may
write.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mmap_model.errors import InputError
from orchestrator.ledger.gather import gather
from orchestrator.redaction import redact, shown_uri

ROOT_LOOK_S = 0.5
"""Seconds for which a local root that was there is taken to be there still."""


class StorageError(InputError):
    """A storage location that cannot be understood, read or written."""


@dataclass(frozen=True)
class Entry:
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
    def everything(self) -> Iterator[Entry]:
        """All files below the root, unfinished and hidden ones too: for housekeeping, not for reading."""

    def locate(self, path: str) -> str:
        """The absolute path or URI of ``path``, for people and for links: no credentials, no options."""
        shown = shown_uri(self.root).rstrip("/")
        return f"{shown}/{path}" if path else shown


def open_storage(root: str | os.PathLike[str] | Storage) -> Storage:
    """Storage at a local path, a ``file://`` URI, or a URI of ``pyarrow.fs`` (s3, gs, abfs, hdfs, fsspec+…).

    Nothing is created or contacted yet.

    Raises:
        StorageError: the URI is not understood.
    """
    if isinstance(root, Storage):
        return root
    text = os.fspath(root)
    if text.startswith("file://"):
        return LocalStorage(text.removeprefix("file://"))
    if "://" in text:
        return ArrowStorage(text)
    return LocalStorage(text)


def check_writable(root: str | os.PathLike[str] | Storage, where: str = "storage") -> None:
    """Write and remove a small file.

    Raises:
        StorageError: naming the location, the reason and what to change.
    """
    storage = open_storage(root)
    probe = f".writable-{secrets.token_hex(6)}"
    try:
        storage.write(probe, b"")
        storage.delete(probe)
    except OSError as error:
        raise StorageError(
            f"cannot write to {storage.locate('')}: {error}",
            where=where,
            fix="give a folder or bucket this user may write, e.g. storage=./runs",
        ) from error


class LocalStorage(Storage):
    """A folder. Writes go to a temporary name and are renamed; ``create`` is an exclusive hard link."""

    exclusive = True

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._root = Path(root).expanduser().absolute()
        self.root = str(self._root)
        self._identity: tuple[int, int] | None = None
        self._looked = -math.inf

    def read(self, path: str) -> bytes | None:
        self._require_root()
        try:
            return self._at(path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, path: str, data: bytes) -> None:
        self._require_root()
        target = self._at(path)
        with self._temporary(target, data) as temporary:
            temporary.replace(target)

    def create(self, path: str, data: bytes) -> bool:
        self._require_root()
        target = self._at(path)
        with self._temporary(target, data) as temporary:
            try:
                target.hardlink_to(temporary)
            except FileExistsError:
                return False
            except OSError:  # a file system without hard links
                return _create_exclusively(target, data)
        return True

    def delete(self, path: str) -> None:
        target = self._at(path)
        if target.is_dir() and not target.is_symlink():
            import shutil

            shutil.rmtree(target, ignore_errors=True)
        else:
            target.unlink(missing_ok=True)

    def move(self, path: str, target: str) -> None:
        destination = self._at(target)
        destination.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            self._at(path).rename(destination)

    def names(self, folder: str) -> list[str]:
        self._require_root()
        try:
            return sorted(n for n in os.listdir(self._at(folder)) if not n.startswith("."))  # noqa: PTH208
        except (FileNotFoundError, NotADirectoryError):
            return []

    def files(self, folder: str) -> Iterator[str]:
        top = f"{folder}/" if folder else ""
        for entry in self._walk(folder, lambda prefix: self._scan(prefix, hidden=False, stat=False)):
            yield entry.path.removeprefix(top)

    def everything(self) -> Iterator[Entry]:
        return self._walk("", lambda prefix: self._scan(prefix, hidden=True, stat=True))

    def _walk(self, folder: str, scan: Callable[[str], tuple[list[str], list[Entry]]]) -> Iterator[Entry]:
        """Everything below a folder, the folders of one level side by side where that pays."""
        level = [folder]
        while level:
            below: list[str] = []
            for folders, files in gather(scan, level):
                below += folders
                yield from files
            level = below

    def _scan(self, folder: str, *, hidden: bool, stat: bool) -> tuple[list[str], list[Entry]]:
        """Folders and files of a folder; size and time of a file only with ``stat``, which asks for each."""
        folders, files = [], []
        try:
            with os.scandir(self._at(folder)) as entries:
                for entry in entries:
                    path = f"{folder}/{entry.name}" if folder else entry.name
                    if not hidden and entry.name.startswith("."):
                        continue
                    if entry.is_dir():
                        folders += [] if entry.is_symlink() else [path]
                        continue
                    with contextlib.suppress(FileNotFoundError):
                        found = entry.stat(follow_symlinks=False) if stat else None
                        files.append(
                            Entry(path, found.st_size if found else 0, found.st_mtime if found else 0.0)
                        )
        except (FileNotFoundError, NotADirectoryError):
            pass
        return folders, files

    def _require_root(self) -> None:
        """A root that was there must be there still, and be the same.

        Where a file system is unmounted or a folder moved away, records would seem never to have been
        written, and new ones would land on whatever lies below. Looked at once in a while, not every time.

        Raises:
            OSError: it is gone, or another one is in its place.
        """
        now = time.monotonic()
        if now - self._looked < ROOT_LOOK_S:
            return
        try:
            found = self._root.stat()
        except FileNotFoundError:
            found = None
        if found is None and self._identity is None:
            return  # nothing was written here yet
        identity = None if found is None else (found.st_dev, found.st_ino)
        if self._identity not in (None, identity):
            what = "it is gone" if found is None else "another folder is in its place"
            raise OSError(errno.ESTALE, f"{what}; was it unmounted or moved?", self.root)
        self._identity, self._looked = identity, now

    def _at(self, path: str) -> Path:
        return self._root / _inside(path)

    @contextlib.contextmanager
    def _temporary(self, target: Path, data: bytes) -> Iterator[Path]:
        temporary = target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}")
        try:
            try:
                temporary.write_bytes(data)
            except FileNotFoundError:
                target.parent.mkdir(parents=True, exist_ok=True)
                temporary.write_bytes(data)
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)


def _inside(path: str) -> str:
    """``path`` if it stays below the root it is relative to.

    Raises:
        StorageError: it is absolute or climbs.
    """
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\0" in path:
        raise StorageError(f"{path!r} leads out of the storage", where="storage", fix="use plain names")
    return path


def _create_exclusively(target: Path, data: bytes) -> bool:
    try:
        with target.open("xb") as stream:
            stream.write(data)
    except FileExistsError:
        return False
    return True


class ArrowStorage(Storage):
    """A URI of ``pyarrow.fs``. An object appears whole when its upload closes, which is the atomic write.

    File systems with a rename of their own (hdfs) get a temporary name instead. There is no exclusive
    creation in this interface: ``create`` looks first and then writes.
    """

    exclusive = False

    def __init__(self, uri: str) -> None:
        from pyarrow import ArrowInvalid, ArrowNotImplementedError, fs

        try:
            self._fs, base = fs.FileSystem.from_uri(uri)
        except (ArrowInvalid, ArrowNotImplementedError, ValueError, ImportError, OSError) as error:
            raise StorageError(
                f"{shown_uri(uri)!r} cannot be opened: {redact(str(error))}",
                where="storage",
                fix="use a local path, or s3://bucket/path, gs://…, abfs://…, hdfs://…",
            ) from error
        self._types, self._selector = fs.FileType, fs.FileSelector
        self._base = base.rstrip("/")
        self._rename = self._fs.type_name in ("hdfs", "local")
        self.root = uri.rstrip("/")

    def read(self, path: str) -> bytes | None:
        try:
            with self._fs.open_input_stream(self._at(path)) as stream:
                return bytes(stream.read())
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, path: str, data: bytes) -> None:
        folder, _, name = self._at(path).rpartition("/")
        target = f"{folder}/.{name}.{secrets.token_hex(6)}" if self._rename else f"{folder}/{name}"
        try:
            self._put(target, data)
        except FileNotFoundError:
            self._fs.create_dir(folder, recursive=True)
            self._put(target, data)
        if self._rename:
            self._fs.move(target, f"{folder}/{name}")

    def create(self, path: str, data: bytes) -> bool:
        if self.read(path) is not None:
            return False
        self.write(path, data)
        return True

    def delete(self, path: str) -> None:
        info = self._fs.get_file_info(self._at(path))
        if info.type == self._types.Directory:
            self._fs.delete_dir(info.path)
        elif info.type != self._types.NotFound:
            self._fs.delete_file(info.path)

    def move(self, path: str, target: str) -> None:
        is_folder = self._fs.get_file_info(self._at(path)).type == self._types.Directory
        pairs = [(f"{path}/{name}", f"{target}/{name}") for name in self.files(path)] if is_folder else []
        for old, new in pairs or [(path, target)]:
            data = self.read(old)
            if data is not None:
                self.write(new, data)
        self.delete(path)

    def names(self, folder: str) -> list[str]:
        found = (info.base_name for info in self._list(folder, recursive=False))
        return sorted(name for name in found if not name.startswith("."))

    def files(self, folder: str) -> Iterator[str]:
        prefix = len(self._at(folder)) + 1
        for info in self._list(folder, recursive=True):
            name = info.path[prefix:]
            if info.is_file and not any(part.startswith(".") for part in name.split("/")):
                yield name

    def everything(self) -> Iterator[Entry]:
        prefix = len(self._base) + 1
        for info in self._list("", recursive=True):
            if info.is_file:
                modified = info.mtime.timestamp() if info.mtime is not None else 0.0
                yield Entry(info.path[prefix:], info.size or 0, modified)

    def _list(self, folder: str, *, recursive: bool) -> list[Any]:
        selector = self._selector(self._at(folder), allow_not_found=True, recursive=recursive)
        return list(self._fs.get_file_info(selector))

    def _put(self, target: str, data: bytes) -> None:
        with self._fs.open_output_stream(target) as stream:
            stream.write(data)

    def _at(self, path: str) -> str:
        return f"{self._base}/{_inside(path)}" if path else self._base
