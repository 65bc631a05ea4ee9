"""Records on any file system of ``pyarrow.fs``: object stores, HDFS, fsspec."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

from orchestrator.ledger.storage_interface import Storage, StorageEntry, StorageError, inside
from orchestrator.redaction import redact, shown_uri


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

    def everything(self) -> Iterator[StorageEntry]:
        prefix = len(self._base) + 1
        for info in self._list("", recursive=True):
            if info.is_file:
                modified = info.mtime.timestamp() if info.mtime is not None else 0.0
                yield StorageEntry(info.path[prefix:], info.size or 0, modified)

    def _list(self, folder: str, *, recursive: bool) -> list[Any]:
        selector = self._selector(self._at(folder), allow_not_found=True, recursive=recursive)
        return list(self._fs.get_file_info(selector))

    def _put(self, target: str, data: bytes) -> None:
        with self._fs.open_output_stream(target) as stream:
            stream.write(data)

    def _at(self, path: str) -> str:
        return f"{self._base}/{inside(path)}" if path else self._base
