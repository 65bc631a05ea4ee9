"""Parquet tables of encoded images, on any place, read from front to back in constant memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmap_model.errors import ConfigurationError, nearest
from orchestrator.predicting.refs import located, shown_path
from orchestrator.redaction import redact

SUFFIX = ".parquet"

BUFFER = 8 * 2**20
"""Bytes of a column that are fetched at once: row groups of images may be larger than memory."""

ROWS = 64
"""Rows that are decoded at once."""


class ImageTable:
    """A column of images of one file: bytes, or structs with a field ``bytes`` as Hugging Face writes them.

    Attributes:
        column: its name.
        rows: how many there are.

    Raises:
        ConfigurationError: the file cannot be read or has no such column.
    """

    def __init__(self, root: str, path: str, column: str | None = None) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._shown = shown_path(root, path)
        try:
            system, place = located(root, path) if root else (None, path)
            source = system.open_input_file(place) if system else pa.OSFile(place)
            self._file = pq.ParquetFile(source, buffer_size=BUFFER, pre_buffer=False)
        except (OSError, pa.ArrowException) as error:
            raise _unreadable(self._shown, error) from error
        self.rows: int = self._file.metadata.num_rows
        self.column = self._chosen(column)
        self._place = -1
        self._pending: Iterator[Any] = iter(())

    def group_of(self, row: int) -> int:
        """The row group that a row is in."""
        metadata, end = self._file.metadata, 0
        for group in range(metadata.num_row_groups):
            end += metadata.row_group(group).num_rows
            if row < end:
                return group
        raise AssertionError(f"there is no row {row}")

    def read(self, start: int, count: int) -> list[bytes | None]:
        """Images of consecutive rows; None where there is none. Quick where the last call stopped.

        Raises:
            OSError: the file is damaged, or gone.
        """
        from pyarrow import ArrowException

        if start != self._place:
            self._pending = self._from(start)
        self._place = -1
        try:
            found = [next(self._pending) for _ in range(count)]
        except ArrowException as error:
            raise OSError(str(error)) from error
        self._place = start + count
        return found

    def _from(self, start: int) -> Iterator[bytes | None]:
        metadata, group = self._file.metadata, self.group_of(start)
        first = sum(metadata.row_group(before).num_rows for before in range(group))
        structs = _is_struct(self._file.schema_arrow.field(self.column).type)
        batches = self._file.iter_batches(
            batch_size=ROWS,
            row_groups=range(group, metadata.num_row_groups),
            columns=[f"{self.column}.bytes" if structs else self.column],
        )
        skipped = start - first
        for batch in batches:
            values = batch.column(0)
            if skipped < len(values):
                for value in values.slice(skipped).to_pylist():
                    yield (value or {}).get("bytes") if structs else value
            skipped = max(0, skipped - len(values))

    def _chosen(self, column: str | None) -> str:
        schema = self._file.schema_arrow
        fitting = [field.name for field in schema if _is_binary(field.type) or _is_struct(field.type)]
        if column is not None and column not in schema.names:
            raise ConfigurationError(
                f"{self._shown} has no column {column!r}", where="--column", fix=nearest(column, schema.names)
            )
        if column is not None and column not in fitting:
            raise ConfigurationError(
                f"column {column!r} of {self._shown} holds {schema.field(column).type}, not encoded images",
                where="--column",
                fix="name a column of bytes, or of structs with a field bytes; give paths on standard "
                "input, with -",
            )
        if column is None and "image" not in fitting and len(fitting) != 1:
            found = f"columns {', '.join(fitting)} could be images" if fitting else "no column holds bytes"
            raise ConfigurationError(
                f"{found} in {self._shown}",
                where="IMAGES",
                fix="name the column of images with --column" if fitting else "give a table with images",
            )
        return column or ("image" if "image" in fitting else fitting[0])


def _is_binary(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _is_struct(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_struct(kind)) and any(
        field.name == "bytes" and _is_binary(field.type) for field in kind
    )


def _unreadable(name: str, error: Exception) -> ConfigurationError:
    return ConfigurationError(
        f"{name} cannot be read: {redact(str(error)).splitlines()[0]}",
        where="IMAGES",
        fix="give a readable Parquet file",
    )
