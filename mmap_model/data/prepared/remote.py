"""Stores on other machines, through ``pyarrow.fs``: kept on this one as far as they are read, and written."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmap_model.data.prepared.cache import LIMIT_VARIABLE, make_room, touch
from mmap_model.data.prepared.layout import MANIFEST, PARTS
from mmap_model.errors import DatasetError

_BLOCK = 8 << 20


def is_remote(location: str) -> bool:
    """Whether a location is a URI of another machine or service."""
    return "://" in location and not location.startswith("file://")


class RemoteFiles:
    """A store far away, file by file fetched into this machine's cache when it is first asked for.

    Every file is fetched by one process while the others wait. The cache is bounded (`cache.make_room`):
    other stores go, the least recently used first.

    Args:
        uri: of the store's folder.
        cache_dir: the cache is its folder ``remote``.

    Raises:
        DatasetError: the URI cannot be understood or reached, or no whole store lies there.
    """

    def __init__(self, uri: str, cache_dir: Path) -> None:
        self.location = _shown(uri)
        self._filesystem, self._base = _connect(uri)
        manifest = self._read(MANIFEST)
        self._folder = cache_dir / "remote" / hashlib.sha256(manifest).hexdigest()[:32]
        self._folder.mkdir(parents=True, exist_ok=True)
        _write_atomically(self._folder / MANIFEST, manifest)
        self._sizes: dict[str, tuple[int, str]] = json.loads(self._read(PARTS))
        touch(self._folder)

    def path(self, name: str) -> Path:
        path = self._folder / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with _locked(path.with_name(f".{path.name}.lock")):
                if not path.exists():
                    self._fetch(name, path)
        return path

    def _fetch(self, name: str, path: Path) -> None:
        size, digest = self._sizes[name]
        excess = make_room(self._folder.parent, keep=self._folder, needed=size)
        if excess:
            raise DatasetError(
                f"the part of {self.location} that is used here exceeds the cache by {excess / 1e9:.1f} GB",
                where=LIMIT_VARIABLE,
                fix="raise it, or use fewer tasks",
            )
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        found = hashlib.sha256()
        try:
            with (
                self._guarded(),
                self._filesystem.open_input_stream(f"{self._base}/{name}") as source,
                partial.open("wb") as sink,
            ):
                while block := source.read(_BLOCK):
                    found.update(block)
                    sink.write(block)
            if found.hexdigest() != digest:
                raise DatasetError(
                    f"{name} of {self.location} is not what was written there",
                    where="dataset.store",
                    fix="prepare the store again",
                )
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        touch(self._folder)

    def _read(self, name: str) -> bytes:
        with self._guarded(), self._filesystem.open_input_stream(f"{self._base}/{name}") as source:
            return bytes(source.read())

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise DatasetError(
                f"{self.location} is not a whole store",
                where="dataset.store",
                fix="run: orchestrator data prepare … --output THERE (it resumes)",
            ) from None
        except OSError as error:
            raise DatasetError(
                f"{self.location} cannot be read: {error}",
                where="dataset.store",
                fix="check the address, the permission and the network",
            ) from error


def upload(folder: Path, uri: str, advance: Callable[[int], None] = lambda size: None) -> None:
    """Copy a finished store; what is there already in its full size stays. The manifest comes last.

    Args:
        folder: of the store on this machine.
        uri: of the folder to write.
        advance: told the bytes of every file that is there.

    Raises:
        DatasetError: the place cannot be written.
    """
    filesystem, base = _connect(uri)
    names = [*json.loads((folder / PARTS).read_text(encoding="utf-8")), PARTS, MANIFEST]
    try:
        for name in names:
            size = (folder / name).stat().st_size
            there = filesystem.get_file_info(f"{base}/{name}")
            if name in (PARTS, MANIFEST) or not there.is_file or there.size != size:
                filesystem.create_dir(f"{base}/{name}".rpartition("/")[0], recursive=True)
                with (
                    (folder / name).open("rb") as source,
                    filesystem.open_output_stream(f"{base}/{name}") as sink,
                ):
                    while block := source.read(_BLOCK):
                        sink.write(block)
            advance(size)
    except OSError as error:
        raise DatasetError(
            f"{_shown(uri)} cannot be written: {error}",
            where="--output",
            fix="check the address, the permission and the network",
        ) from error


def _connect(uri: str) -> tuple[Any, str]:
    from pyarrow.fs import FileSystem

    try:
        filesystem, base = FileSystem.from_uri(uri)
    except (OSError, ValueError, ImportError, pa.ArrowException) as error:
        raise DatasetError(
            f"{_shown(uri)} is not a location: {str(error).replace(uri, _shown(uri))}",
            where="dataset.store",
            fix="give a folder, or s3://bucket/folder, gs://…, abfs://…, hdfs://…",
        ) from error
    return filesystem, base.rstrip("/")


def _shown(uri: str) -> str:
    """For people: no credentials, no options."""
    scheme, _, rest = uri.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}" if rest else uri


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write_atomically(path: Path, data: bytes) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    partial.write_bytes(data)
    partial.replace(path)
