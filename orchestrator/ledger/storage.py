"""Where records lie: a local folder here, object stores beside it, by one small set of operations.

See ``orchestrator.ledger.storage_interface`` for what these promise.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from mmap_model.paths import expanded
from orchestrator.ledger.arrow_storage import ArrowStorage
from orchestrator.ledger.gather import gather
from orchestrator.ledger.storage_interface import Storage, StorageEntry, StorageError, inside

__all__ = [
    "ROOT_LOOK_S",
    "LocalStorage",
    "Storage",
    "StorageEntry",
    "StorageError",
    "check_writable",
    "open_storage",
]

ROOT_LOOK_S = 0.5
"""Seconds for which a local root that was there is taken to be there still."""


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
        self._root = expanded(root).absolute()
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
        self._make_folder(destination.parent)
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

    def everything(self) -> Iterator[StorageEntry]:
        return self._walk("", lambda prefix: self._scan(prefix, hidden=True, stat=True))

    def _walk(
        self, folder: str, scan: Callable[[str], tuple[list[str], list[StorageEntry]]]
    ) -> Iterator[StorageEntry]:
        """Everything below a folder, the folders of one level side by side where that pays."""
        level = [folder]
        while level:
            below: list[str] = []
            for folders, files in gather(scan, level):
                below += folders
                yield from files
            level = below

    def _scan(self, folder: str, *, hidden: bool, stat: bool) -> tuple[list[str], list[StorageEntry]]:
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
                            StorageEntry(
                                path, found.st_size if found else 0, found.st_mtime if found else 0.0
                            )
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

    def _make_folder(self, folder: Path) -> None:
        """Make a folder below the root, and the root itself only if it was never there.

        Of a root that was deleted a moment ago nothing must come back: it would hold a few of the records,
        without the study that they belong to.

        Raises:
            OSError: the root is gone, or another one is in its place.
        """
        self._looked = -math.inf
        self._require_root()
        if self._identity is None:
            self._root.mkdir(parents=True, exist_ok=True)
            self._require_root()
        place = self._root
        for part in folder.relative_to(self._root).parts:
            place = place / part
            try:
                place.mkdir(exist_ok=True)
            except FileNotFoundError:
                raise OSError(errno.ESTALE, "it was deleted just now", self.root) from None

    def _at(self, path: str) -> Path:
        return self._root / inside(path)

    @contextlib.contextmanager
    def _temporary(self, target: Path, data: bytes) -> Iterator[Path]:
        temporary = target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}")
        try:
            try:
                temporary.write_bytes(data)
            except FileNotFoundError:
                self._make_folder(target.parent)
                temporary.write_bytes(data)
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)


def _create_exclusively(target: Path, data: bytes) -> bool:
    try:
        with target.open("xb") as stream:
            stream.write(data)
    except FileExistsError:
        return False
    return True
