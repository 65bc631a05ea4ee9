"""Decoded training images of some draws: one file per machine, mapped by every process that trains on them.

Few-shot training crops again and again from few images. They are decoded once, by whichever process is
first, into a file of the cache folder; the others wait for it. The file is a cache: it may go at any time and
is made again when asked for.
"""

from __future__ import annotations

import fcntl
import io
import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mmap_model.configuration import content_key
from mmap_model.data.ahead import ahead
from mmap_model.data.arrays import from_bytes, from_numbers, numbers
from mmap_model.data.decoding import open_image, training_original
from mmap_model.data.prepared.cache import make_room, touch
from mmap_model.data.sources.base import Indices, Source
from mmap_model.errors import DatasetError

RECIPE = 1
"""Rises when `training_original` gives other pixels."""

_BATCH = 64
_SCHEMA = pa.schema([("height", pa.int32()), ("width", pa.int32()), ("image", pa.large_binary())])


class TrainingPixels:
    """Upright RGB images by task and index, as `training_original` makes them.

    Args:
        path: a file that `training_pixels` wrote.
        members: by task, the sorted indices in it.
    """

    def __init__(self, path: Path, members: Sequence[Indices]) -> None:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        self._members = members
        self._starts = np.cumsum([0, *(len(m) for m in members)])
        sizes = [[numbers(b.column(name)) for b in batches] for name in ("height", "width")]
        self._extents = np.stack([np.concatenate(column) for column in sizes], axis=1).astype(np.int64)
        self._columns = [batch.column("image") for batch in batches]
        assert len(self._extents) == self._starts[-1], "the file holds what its name says"

    def __len__(self) -> int:
        return len(self._extents)

    @property
    def bytes(self) -> int:
        """Of all pixels."""
        return int(self._extents.prod(axis=1).sum() * 3)

    @property
    def longest(self) -> int:
        """The longest side of all images, pixels."""
        return int(self._extents.max())

    def rows(self, task: int, indices: Indices) -> Indices:
        """Numbers of images of a task within the file."""
        rows: Indices = self._starts[task] + np.searchsorted(self._members[task], indices)
        return rows

    def extents(self, rows: Indices) -> Indices:
        """(height, width), [n, 2]."""
        return self._extents[rows]

    def images(self, rows: Indices) -> Iterator[npt.NDArray[np.uint8]]:
        """uint8 [height, width, 3], read-only views of the mapped file."""
        for row in rows.tolist():
            batch, position = divmod(row, _BATCH)
            buffer = self._columns[batch][position].as_buffer()
            yield np.frombuffer(buffer, np.uint8).reshape(*self._extents[row], 3)


def training_pixels(source: Source, wanted: Sequence[Indices], side: int, cache_dir: Path) -> TrainingPixels:
    """Decode the images ``wanted`` (sorted indices, by task) unless this machine has them decoded already.

    Args:
        source: whose images they are.
        wanted: by task in the source's order.
        side: of `training_original`.
        cache_dir: the file lies in its folder ``pixels``.

    Raises:
        DatasetError: an image that cannot be decoded, or a cache folder that cannot be written.
    """
    names = [task.name for task in source.tasks]
    chosen = [indices.tolist() for indices in wanted]
    key = content_key({"images": source.manifest, "of": chosen, "side": side, "recipe": RECIPE})
    path = cache_dir / "pixels" / f"{key}.arrow"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            with path.with_suffix(".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not path.exists():
                    places = [(names[t], index) for t, indices in enumerate(chosen) for index in indices]
                    _write(path, source, places, side)
                    make_room(path.parent, keep=path)
        touch(path)
        return TrainingPixels(path, wanted)
    except OSError as error:
        raise DatasetError(
            f"decoded training images cannot be kept in {path.parent}: {error}",
            where="MMAP_CACHE_DIR",
            fix="set it to a folder of this machine with room",
        ) from error


def _write(path: Path, source: Source, places: Sequence[tuple[str, int]], side: int) -> None:
    def decode(place: tuple[str, int]) -> npt.NDArray[np.uint8]:
        encoded = io.BytesIO(source.read(*place))
        return np.asarray(training_original(open_image(encoded, source.location(*place)), side))

    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        # Pillow releases the GIL while it decodes; a batch is decoded while the one before it is written.
        decoded = ahead(decode, places, threads=min(16, os.cpu_count() or 1), reach=_BATCH)
        with pa.OSFile(str(partial), "wb") as sink, pa.ipc.new_file(sink, _SCHEMA) as writer:
            while images := list(islice(decoded, _BATCH)):
                sizes = np.array([image.shape[:2] for image in images], np.int32)
                columns = [from_numbers(sizes[:, 0]), from_numbers(sizes[:, 1]), from_bytes(images)]
                writer.write_batch(pa.record_batch(columns, schema=_SCHEMA))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
