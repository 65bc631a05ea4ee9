"""Single files of a table: columns, and one image at a time.

Arrow files are mapped into memory; Parquet is read by row group.
"""

from __future__ import annotations

import hashlib
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mmap_model.data.dataset import default_cache_dir
from mmap_model.data.sources.base import Indices
from mmap_model.errors import DatasetError

KEPT_GROUPS = 4
"""Row groups of images that a Parquet file keeps in memory."""


class Shard(ABC):
    """One file. Its methods raise DatasetError where it is damaged.

    Attributes:
        path: where it is.
        names: of its columns.
        metadata: of its schema.
    """

    path: Path
    names: list[str]
    metadata: dict[bytes, bytes]

    def column(self, name: str) -> list[Any]:
        """All values of a column."""
        with _whole(self.path):
            return self._column(name)

    def sizes(self, name: str) -> Indices:
        """Bytes of each value of a column of images."""
        with _whole(self.path):
            return self._sizes(name)

    def read(self, name: str, row: int) -> bytes:
        """One value of a column of images."""
        with _whole(self.path):
            return self._read(name, row)

    @abstractmethod
    def _column(self, name: str) -> list[Any]: ...

    @abstractmethod
    def _sizes(self, name: str) -> Indices: ...

    @abstractmethod
    def _read(self, name: str, row: int) -> bytes: ...


class _ArrowShard(Shard):
    """A mapped Arrow IPC file, as a file or as a stream."""

    def __init__(self, path: Path) -> None:
        self.path = path
        mapped = pa.memory_map(str(path))
        try:
            reader = pa.ipc.open_file(mapped)
            batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        except pa.ArrowInvalid:
            mapped.seek(0)
            reader = pa.ipc.open_stream(mapped)
            batches = list(reader)
        self.names = list(reader.schema.names)
        self.metadata = dict(reader.schema.metadata or {})
        self._batches = batches
        self._starts = np.cumsum([0, *(len(batch) for batch in batches)])

    def _column(self, name: str) -> list[Any]:
        return [value for batch in self._batches for value in batch.column(name).to_pylist()]

    def _sizes(self, name: str) -> Indices:
        return _joined([_lengths(_encoded(batch.column(name), self.path, name)) for batch in self._batches])

    def _read(self, name: str, row: int) -> bytes:
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        values = _encoded(self._batches[number].column(name), self.path, name)
        return values[row - int(self._starts[number])].as_py() or b""


class _ParquetShard(Shard):
    """A Parquet file. It does not say how long values are: found once by reading them, then remembered."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = pq.ParquetFile(path)
        schema = self._file.schema_arrow
        self.names = list(schema.names)
        self.metadata = dict(schema.metadata or {})
        groups = range(self._file.num_row_groups)
        self._starts = np.cumsum([0, *(self._file.metadata.row_group(g).num_rows for g in groups)])
        self._kept: OrderedDict[int, Any] = OrderedDict()
        self._lock = threading.Lock()

    def _column(self, name: str) -> list[Any]:
        return list(self._file.read(columns=[name]).column(name).to_pylist())

    def _sizes(self, name: str) -> Indices:
        stat = self.path.stat()
        described = f"{self.path.resolve()} {stat.st_size} {stat.st_mtime_ns} {name}"
        place = default_cache_dir() / "table-sizes" / hashlib.sha256(described.encode()).hexdigest()[:32]
        remembered = place.with_suffix(".npy")
        if remembered.is_file():
            return np.asarray(np.load(remembered), np.int64)
        found = _joined([_lengths(self._group(g, name)) for g in range(self._file.num_row_groups)])
        remembered.parent.mkdir(parents=True, exist_ok=True)
        partial = remembered.with_suffix(f".{threading.get_native_id()}.npy")
        np.save(partial, found)
        partial.replace(remembered)
        return found

    def _read(self, name: str, row: int) -> bytes:
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        with self._lock:
            if number not in self._kept:
                self._kept[number] = self._group(number, name)
                if len(self._kept) > KEPT_GROUPS:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(number)
            values = self._kept[number]
        return values[row - int(self._starts[number])].as_py() or b""

    def _group(self, number: int, name: str) -> Any:
        column = self._file.read_row_group(number, columns=[name]).column(name)
        return _encoded(column.combine_chunks(), self.path, name)


def open_shard(path: Path) -> Shard:
    """A file of a table, by its suffix.

    Raises:
        DatasetError: it cannot be read as what its suffix says.
    """
    with _whole(path):
        return _ParquetShard(path) if path.suffix == ".parquet" else _ArrowShard(path)


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    """Raise DatasetError for whatever pyarrow says of a damaged file."""
    try:
        yield
    except (pa.ArrowException, OSError, LookupError, UnicodeDecodeError) as error:
        said = str(error).splitlines()
        raise DatasetError(
            f"{path} cannot be read: {said[0] if said else type(error).__name__}",
            where="dataset.root",
            fix="replace or remove it",
        ) from error


def _encoded(column: Any, path: Path, name: str) -> Any:
    """The binary column itself, or the ``bytes`` of a column of structs."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_struct(column.type) and column.type.get_field_index("bytes") >= 0:
        column = pc.struct_field(column, "bytes")
    if not (pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)):
        raise DatasetError(
            f"column {name!r} of {path} holds {column.type}, not encoded images",
            where="dataset.table.image",
            fix="name a column of bytes, or of structs with a field bytes",
        )
    return column


def _lengths(column: Any) -> Indices:
    return np.asarray(pc.fill_null(pc.binary_length(column), 0)).astype(np.int64)


def _joined(parts: list[Indices]) -> Indices:
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)
