"""One part of a store: made from a source, written as Arrow IPC files, opened by mapping them."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from mmap_model.data.arrays import from_booleans, from_bytes, from_numbers, from_rows, from_strings, numbers
from mmap_model.data.decoding import evaluation_view, open_image, upright_size
from mmap_model.data.prepared.layout import INDEX_SCHEMA, StorePlan, part_path, rows_path
from mmap_model.data.sources.base import Source
from mmap_model.errors import DatasetError

ORIGINALS_SCHEMA = pa.schema([("image", pa.large_binary())])


@dataclass(frozen=True)
class PartWritten:
    """Images, encoded bytes and files (bytes and SHA-256 by path) of one part."""

    images: int
    bytes: int
    files: dict[str, tuple[int, str]]


def write_part(folder: Path, plan: StorePlan, source: Source, task: int, part: int) -> PartWritten:
    """Read, decode where needed, and write one part with its rows of the index.

    Raises:
        DatasetError: an image that cannot be read or decoded.
    """
    stored = plan.tasks[task]
    first = part * plan.part_images
    indices = range(first, min(first + plan.part_images, stored.images))
    encoded = [_read(source, stored.name, index) for index in indices]
    sizes = np.empty((len(encoded), 2), np.int32)
    views = np.empty((len(encoded), 3, plan.side, plan.side), np.uint8) if stored.evaluated else None
    for row, index in enumerate(indices):
        name = source.location(stored.name, index)
        if views is None:
            sizes[row] = upright_size(io.BytesIO(encoded[row]), name)
        else:
            image = open_image(io.BytesIO(encoded[row]), name)
            sizes[row] = image.height, image.width
            views[row] = _channels_first(evaluation_view(image, plan.side))
    files = {}
    originals = pa.record_batch([from_bytes(encoded)], schema=ORIGINALS_SCHEMA)
    path = part_path("originals", task, part)
    files[path] = _write(folder / path, originals)
    if views is not None:
        path = part_path("evaluation", task, part)
        files[path] = _write(folder / path, _pixels_batch(views))
    rows = _rows(source, stored.name, indices, encoded, sizes)
    hashes = {name.encode(): f"{size} {digest}".encode() for name, (size, digest) in files.items()}
    _write(folder / rows_path(task, part), rows.replace_schema_metadata(hashes))
    return PartWritten(len(encoded), sum(map(len, encoded)), files)


def read_rows(
    folder: Path, plan: StorePlan, task: int, part: int
) -> tuple[pa.RecordBatch, PartWritten] | None:
    """What `write_part` wrote, or None where the part is not whole."""
    path = folder / rows_path(task, part)
    if not path.exists():
        return None
    with pa.OSFile(str(path), "rb") as file:
        rows = pa.ipc.open_file(file).get_batch(0)
    files = {}
    for name in plan.files(task, part):
        size, digest = rows.schema.metadata[name.encode()].decode().split()
        file_path = folder / name
        if not file_path.exists() or file_path.stat().st_size != int(size):
            return None
        files[name] = (int(size), digest)
    written = PartWritten(len(rows), int(numbers(rows.column("size")).sum()), files)
    return rows.replace_schema_metadata(None), written


class OriginalsPart:
    """Encoded images of a mapped part, by position within it."""

    def __init__(self, path: Path) -> None:
        self._column = _map(path)

    def __getitem__(self, position: int) -> pa.Buffer:
        """The encoded bytes, without a copy."""
        return self._column[position].as_buffer()


class EvaluationPart:
    """Evaluation views of a mapped part: ``pixels`` uint8 [n, 3, side, side], read-only."""

    def __init__(self, path: Path, side: int) -> None:
        column = _map(path)
        flat = np.frombuffer(column.buffers()[1], np.uint8, count=len(column) * 3 * side * side)
        self.pixels: npt.NDArray[np.uint8] = flat.reshape(-1, 3, side, side)


def _map(path: Path) -> pa.Array:
    return pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0).column("image")


def _read(source: Source, task: str, index: int) -> bytes:
    encoded = source.read(task, index)
    if len(encoded) != source.sizes(task)[index]:
        raise DatasetError(
            f"{source.location(task, index)} has changed while the store was being written",
            where="dataset.root",
            fix="leave the images alone and run the command again",
        )
    return encoded


def _rows(
    source: Source,
    task: str,
    indices: range,
    encoded: Sequence[bytes],
    sizes: npt.NDArray[np.int32],
) -> pa.RecordBatch:
    ids, part = source.ids(task), slice(indices.start, indices.stop)
    official = source.official(task)
    trained = None if official is None else np.isin(np.arange(part.start, part.stop), official.train)
    digests = b"".join(hashlib.sha256(image).digest() for image in encoded)
    columns = [
        from_strings(ids[part]),
        from_numbers(source.labels(task)[part].astype(np.int64)),
        from_numbers(source.sizes(task)[part].astype(np.int64)),
        from_rows(np.frombuffer(digests, np.uint8).reshape(-1, 32)),
        from_numbers(sizes[:, 0]),
        from_numbers(sizes[:, 1]),
        pa.nulls(len(encoded), pa.bool_()) if trained is None else from_booleans(trained),
    ]
    return pa.record_batch(columns, schema=INDEX_SCHEMA)


def _channels_first(image: Image.Image) -> npt.NDArray[np.uint8]:
    return np.asarray(image).transpose(2, 0, 1)


def _pixels_batch(views: npt.NDArray[np.uint8]) -> pa.RecordBatch:
    column = from_rows(views)
    return pa.record_batch([column], schema=pa.schema([("image", column.type)]))


def _write(path: Path, batch: pa.RecordBatch) -> tuple[int, str]:
    """Write one batch atomically; bytes and SHA-256 of the file."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    sink = _HashingFile(partial)
    with pa.PythonFile(sink, "w") as file, pa.ipc.new_file(file, batch.schema) as writer:
        writer.write_batch(batch)
    partial.replace(path)
    return sink.size, sink.sha256.hexdigest()


class _HashingFile:
    """A new file that counts and hashes what is written to it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self.sha256, self.size, self.closed = hashlib.sha256(), 0, False

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        self.size += len(data)
        return self._file.write(data)

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()
        self.closed = True
