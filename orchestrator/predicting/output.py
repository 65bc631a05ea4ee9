"""Where a result is written: the file, its format by its suffix, and what it says of its origin."""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, ClassVar

from mmap_model.errors import ConfigurationError
from mmap_model.paths import expanded
from orchestrator.ledger.storage import Storage, check_writable, open_storage
from orchestrator.predicting.refs import is_uri, located, split_uri

METADATA = b"orchestrator_predict"
"""Key of the origin in the metadata of a Parquet file's schema."""


class Output:
    """A result's place.

    Attributes:
        name: of the file.
        folder: that it lies in.
        parts: folder of what is committed until the result is whole.
    """

    def __init__(self, out: str) -> None:
        """Raises ConfigurationError for a suffix that names no format."""
        if is_uri(out):
            root, path = split_uri(out)
            place, mark, options = root.partition("?")
            above, _, self.name = path.rpartition("/")
            base = f"{place}/{above}" if above else place
        else:
            local = expanded(out.removeprefix("file://")).absolute()
            base, mark, options, self.name = str(local.parent), "", "", local.name
        suffix = self.name.rpartition(".")[2]
        if suffix not in FORMATS or len(self.name) <= len(suffix) + 1:
            raise ConfigurationError(
                f"{self.name or out!r} does not say its format",
                where="--out",
                fix=f"end it with {', '.join(f'.{name}' for name in FORMATS)}",
            )
        self._format = FORMATS[suffix]
        self.folder = open_storage(f"{base}{mark}{options}")
        self.parts = open_storage(f"{base}/{self.name}.parts{mark}{options}")

    @property
    def lock(self) -> Path | None:
        """A file beside the result, locked while a process works on it; None on other machines."""
        return None if is_uri(self.folder.root) else Path(self.folder.root) / f".{self.name}.lock"

    @property
    def shown(self) -> str:
        return self.folder.locate(self.name)

    def check(self) -> None:
        """Raise StorageError where nothing can be written."""
        check_writable(self.folder, "--out")

    def exists(self) -> bool:
        return _exists(self.folder, self.name)

    def origin(self) -> Mapping[str, Any] | None:
        """What the file says that it came from; None where it does not say, or is not there."""
        return self._format.origin(self.folder, self.name)

    def write(self, tables: Iterator[Any], schema: Any, origin: Mapping[str, Any]) -> None:
        """Write all rows; the file appears whole or not at all."""
        self._format.describe(self.folder, self.name, origin)
        with _whole(self.folder, self.name) as stream:
            self._format.write(stream, tables, schema, origin)


class _Format(ABC):
    """How rows become bytes."""

    suffix: ClassVar[str]

    @abstractmethod
    def write(self, stream: IO[bytes], tables: Iterator[Any], schema: Any, origin: Mapping[str, Any]) -> None:
        """Write rows in constant memory."""

    def describe(self, folder: Storage, name: str, origin: Mapping[str, Any]) -> None:
        """Say where the rows came from, beside them: what is no row would disturb readers."""
        folder.write(f"{name}.json", json.dumps(origin, indent=1, ensure_ascii=False).encode())

    def origin(self, folder: Storage, name: str) -> Mapping[str, Any] | None:
        found = folder.read(f"{name}.json") if _exists(folder, name) else None
        return None if found is None else _decoded(found)


class _Parquet(_Format):
    suffix = "parquet"

    def write(self, stream: IO[bytes], tables: Iterator[Any], schema: Any, origin: Mapping[str, Any]) -> None:
        import pyarrow.parquet as pq

        described = schema.with_metadata({METADATA: json.dumps(origin, ensure_ascii=False).encode()})
        with pq.ParquetWriter(stream, described, compression="zstd") as writer:
            for table in tables:
                writer.write_table(table.cast(described))

    def describe(self, folder: Storage, name: str, origin: Mapping[str, Any]) -> None:
        """Nothing: it is in the file."""

    def origin(self, folder: Storage, name: str) -> Mapping[str, Any] | None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        with contextlib.suppress(pa.ArrowException, OSError), _opened(folder, name) as stream:
            found = (pq.read_schema(stream).metadata or {}).get(METADATA)
            return None if found is None else _decoded(found)
        return None


class _Csv(_Format):
    """Lists are JSON in their cells."""

    suffix = "csv"

    def write(self, stream: IO[bytes], tables: Iterator[Any], schema: Any, origin: Mapping[str, Any]) -> None:
        import pyarrow as pa
        from pyarrow import csv, types

        flat = pa.schema([pa.field(f.name, pa.string() if types.is_list(f.type) else f.type) for f in schema])
        with csv.CSVWriter(stream, flat) as writer:
            for table in tables:
                columns = {
                    name: [None if cell is None else json.dumps(cell, ensure_ascii=False) for cell in cells]
                    if types.is_list(schema.field(name).type)
                    else table.column(name)
                    for name in schema.names
                    for cells in [_plain(table.column(name))]
                }
                writer.write_table(pa.table(columns, schema=flat))


class _JsonLines(_Format):
    suffix = "jsonl"

    def write(self, stream: IO[bytes], tables: Iterator[Any], schema: Any, origin: Mapping[str, Any]) -> None:
        for table in tables:
            columns = [_plain(table.column(name)) for name in schema.names]
            for cells in zip(*columns, strict=True):
                row = json.dumps(dict(zip(schema.names, cells, strict=True)), ensure_ascii=False)
                stream.write(f"{row}\n".encode())


FORMATS: Mapping[str, _Format] = {one.suffix: one for one in (_Parquet(), _Csv(), _JsonLines())}


def _plain(column: Any) -> list[Any]:
    """Python values; numbers with the digits that they have in fp32."""
    import pyarrow as pa

    values: list[Any] = column.to_pylist()
    if column.type == pa.float32():
        return [None if value is None else _short(value) for value in values]
    if column.type == pa.list_(pa.float32()):
        return [None if cells is None else [_short(value) for value in cells] for cells in values]
    return values


def _short(value: float) -> float:
    import numpy as np

    return float(str(np.float32(value)))


def _decoded(text: bytes) -> Mapping[str, Any] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _remote(folder: Storage, name: str) -> tuple[Any, str] | None:
    """File system and path of a file; None on this machine."""
    if not is_uri(folder.root):
        return None
    root, path = split_uri(folder.root)
    return located(root, f"{path}/{name}" if path else name)


def _exists(folder: Storage, name: str) -> bool:
    from pyarrow import fs

    remote = _remote(folder, name)
    if remote is None:
        return (Path(folder.root) / name).exists()
    system, path = remote
    return bool(system.get_file_info(path).type == fs.FileType.File)


@contextlib.contextmanager
def _opened(folder: Storage, name: str) -> Iterator[Any]:
    remote = _remote(folder, name)
    if remote is None:
        with (Path(folder.root) / name).open("rb") as local:
            yield local
    else:
        system, path = remote
        with system.open_input_file(path) as stream:
            yield stream


@contextlib.contextmanager
def _whole(folder: Storage, name: str) -> Iterator[IO[bytes]]:
    """A file to fill that takes its place when all is written.

    On an object store closing an upload makes an object of whatever was written: it starts when all is there.
    """
    remote = _remote(folder, name)
    if remote is None:
        place = Path(folder.root)
        partial = place / f".{name}.{secrets.token_hex(4)}"
        try:
            with partial.open("wb") as local:
                yield local
            partial.replace(place / name)
        finally:
            partial.unlink(missing_ok=True)
        return
    with tempfile.TemporaryFile() as stream:
        yield stream
        stream.seek(0)
        system, path = remote
        with system.open_output_stream(path) as upload:
            shutil.copyfileobj(stream, upload, 2**23)
