"""Images of several tasks in one Arrow IPC file, written once and memory-mapped by every process."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mmap_model.data.arrays import from_numbers, numbers

_METADATA = b"mmap_images"

TaskImages = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]
"""Images [n, H, W, 3] and labels [n] of one task."""


@dataclass(frozen=True)
class ImageStore:
    """Read-only views into the mapped file, by task, and the metadata written with them."""

    tasks: Mapping[str, TaskImages]
    metadata: dict[str, Any]


def open_or_write(
    path: Path, make: Callable[[], tuple[Mapping[str, TaskImages], dict[str, Any]]]
) -> ImageStore:
    """Open the store at ``path``; if it is missing, the first of all waiting processes makes it."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                _write(path, *make())
    return _read(path)


def _write(path: Path, tasks: Mapping[str, TaskImages], metadata: dict[str, Any]) -> None:
    shape = next(iter(tasks.values()))[0].shape[1:]
    header = json.dumps({"tasks": list(tasks), "shape": shape, "metadata": metadata}).encode()
    width = int(np.prod(shape))
    schema = pa.schema([("label", pa.int64()), ("image", pa.binary(width))], metadata={_METADATA: header})
    partial = path.with_suffix(f".{os.getpid()}.partial")
    with pa.OSFile(str(partial), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for images, labels in tasks.values():
            assert images.shape[1:] == shape and images.dtype == np.uint8
            pixels = pa.FixedSizeBinaryArray.from_buffers(
                pa.binary(width), len(images), [None, pa.py_buffer(np.ascontiguousarray(images))]
            )
            writer.write_batch(
                pa.record_batch([from_numbers(labels.astype(np.int64)), pixels], schema=schema)
            )
    partial.replace(path)


def _read(path: Path) -> ImageStore:
    reader = pa.ipc.open_file(pa.memory_map(str(path)))
    header = json.loads(reader.schema.metadata[_METADATA])
    tasks = {}
    for number, task in enumerate(header["tasks"]):
        batch = reader.get_batch(number)
        column = batch.column("image")
        flat = np.frombuffer(column.buffers()[1], np.uint8, count=len(column) * column.type.byte_width)
        tasks[task] = (flat.reshape(-1, *header["shape"]), numbers(batch.column("label")))
    return ImageStore(tasks, header["metadata"])
