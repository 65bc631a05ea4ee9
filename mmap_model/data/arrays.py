"""Arrow arrays from numpy and bytes and back, through their buffers.

``pa.array`` and ``Array.to_numpy`` do the same, but they import pandas where it is installed: seconds and
tens of megabytes in every worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Numbers = npt.NDArray[Any]


def from_numbers(values: Numbers) -> pa.Array:
    """An array of integers or floats; shares their memory if they lie in one piece."""
    values = np.ascontiguousarray(values)
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(values)])


def from_booleans(values: npt.NDArray[np.bool_]) -> pa.Array:
    bits = np.packbits(values, bitorder="little")
    return pa.Array.from_buffers(pa.bool_(), len(values), [None, pa.py_buffer(bits)])


def from_strings(values: Sequence[str]) -> pa.Array:
    return _from_pieces([value.encode() for value in values], pa.string(), np.int32)


def from_bytes(values: Sequence[bytes] | Sequence[npt.NDArray[np.uint8]]) -> pa.Array:
    """Of type ``large_binary``, from bytes or arrays of them."""
    pieces = [value if isinstance(value, bytes) else np.ravel(value).data for value in values]
    return _from_pieces(pieces, pa.large_binary(), np.int64)


def from_rows(values: npt.NDArray[np.uint8]) -> pa.Array:
    """Of fixed-size binaries: one per entry of the first axis; shares the memory of contiguous ``values``."""
    values = np.ascontiguousarray(values)
    width = int(np.prod(values.shape[1:]))
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(width), len(values), [None, pa.py_buffer(values.reshape(-1))]
    )


def numbers(array: pa.Array) -> Numbers:
    """Integers or floats without nulls: a read-only view of the array's memory."""
    assert not array.null_count
    dtype = np.dtype(str(array.type))
    return np.frombuffer(array.buffers()[1], dtype, count=len(array), offset=array.offset * dtype.itemsize)


def booleans(array: pa.Array) -> npt.NDArray[np.bool_]:
    """Booleans without nulls, copied."""
    assert not array.null_count
    bits = np.frombuffer(array.buffers()[1], np.uint8)
    found: npt.NDArray[np.bool_] = np.unpackbits(bits, bitorder="little").view(bool)
    return found[array.offset : array.offset + len(array)]


def _from_pieces(pieces: Sequence[bytes | memoryview], kind: pa.DataType, offset_type: type) -> pa.Array:
    offsets = np.zeros(len(pieces) + 1, np.int64)
    np.cumsum([len(piece) for piece in pieces], out=offsets[1:])
    assert offsets[-1] <= np.iinfo(offset_type).max
    buffers = [None, pa.py_buffer(offsets.astype(offset_type)), pa.py_buffer(b"".join(pieces))]
    return pa.Array.from_buffers(kind, len(pieces), buffers)
