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
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mmap_model.data.ahead import ahead
from mmap_model.data.arrays import from_bytes, from_numbers, numbers
from mmap_model.data.decoding import SPARE, open_image, training_original
from mmap_model.data.prepared.cache import make_room, touch
from mmap_model.data.sources.base import Indices, Source
from mmap_model.errors import DatasetError
from mmap_model.plain import content_key

if TYPE_CHECKING:
    from mmap_model.data.augment import Augmentation

RECIPE = 2
"""Rises when `training_original` gives other pixels. Files of recipe 1 hold images whose longer side is below
4 × the view's as they are; they are taken over where no image is longer."""

_BATCH = 64
_NUMBERS = ("height", "width", "full_height", "full_width")
_SCHEMA = pa.schema([*((name, pa.int32()) for name in _NUMBERS), ("image", pa.large_binary())])


class MappedPixels:
    """Training images by task and index, as `training_original` makes them: a `TrainingPixels` in a file.

    Args:
        path: a file that `training_pixels` wrote.
        members: by task, the sorted indices in it.
    """

    def __init__(self, path: Path, members: Sequence[Indices]) -> None:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        self._members = members
        self._starts = np.cumsum([0, *(len(m) for m in members)])
        # Files of recipe 1 hold every image in full.
        full = _NUMBERS[2:] if "full_height" in reader.schema.names else _NUMBERS[:2]
        self._kept, self._extents = (_pairs(batches, names) for names in (_NUMBERS[:2], full))
        self._columns = [batch.column("image") for batch in batches]
        assert len(self._extents) == self._starts[-1], "the file holds what its name says"

    def __len__(self) -> int:
        return len(self._extents)

    @property
    def bytes(self) -> int:
        """Of all pixels."""
        return int(self._kept.prod(axis=1).sum() * 3)

    def rows(self, task: int, indices: Indices) -> Indices:
        """Numbers of images of a task within the file."""
        rows: Indices = self._starts[task] + np.searchsorted(self._members[task], indices)
        return rows

    def extents(self, rows: Indices) -> Indices:
        """(height, width) of the images themselves, [n, 2]: what crops are drawn on."""
        return self._extents[rows]

    def boxes(self, rows: Indices, boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Boxes [n, 4] (top, left, height, width) on the images themselves, on what is kept of them."""
        scale = self._kept[rows] / self._extents[rows]
        kept: npt.NDArray[np.float64] = boxes * np.concatenate([scale, scale], axis=1)
        return kept

    def images(self, rows: Indices) -> Iterator[npt.NDArray[np.uint8]]:
        """What is kept of images, uint8 [height, width, 3]: read-only views of the mapped file."""
        for row in rows.tolist():
            batch, position = divmod(row, _BATCH)
            buffer = self._columns[batch][position].as_buffer()
            yield np.frombuffer(buffer, np.uint8).reshape(*self._kept[row], 3)


def training_pixels(
    source: Source, wanted: Sequence[Indices], size: int, augmentation: Augmentation, cache_dir: Path
) -> MappedPixels:
    """Decode the images ``wanted`` (sorted indices, by task) unless this machine has them decoded already.

    Args:
        source: whose images they are.
        wanted: by task in the source's order.
        size: side that crops are resized to.
        augmentation: what crops can be drawn, so that no image is shrunk too far for one of them.
        cache_dir: the file lies in its folder ``pixels``.

    Raises:
        DatasetError: an image that cannot be decoded, or a cache folder that cannot be written.
    """
    names = [task.name for task in source.tasks]
    chosen = [indices.tolist() for indices in wanted]
    drawn = {"scale": augmentation.scale[0], "ratio": augmentation.ratio, "spare": SPARE}
    about: dict[str, Any] = {"images": source.manifest, "of": chosen}
    key = content_key({**about, "size": size, "crops": drawn, "recipe": RECIPE})
    path = cache_dir / "pixels" / f"{key}.arrow"
    earlier = path.with_name(f"{content_key({**about, 'side': 2 * size, 'recipe': 1})}.arrow")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            with path.with_suffix(".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not path.exists() and earlier.exists() and _kept_in_full(source, wanted, 4 * size):
                    earlier.replace(path)
                if not path.exists():
                    places = [(names[t], index) for t, indices in enumerate(chosen) for index in indices]
                    _write(path, source, places, size, augmentation)
                    make_room(path.parent, keep=path)
        touch(path)
        return MappedPixels(path, wanted)
    except OSError as error:
        raise DatasetError(
            f"decoded training images cannot be kept in {path.parent}: {error}",
            where="MMAP_CACHE_DIR",
            fix="set it to a folder of this machine with room",
        ) from error


def _pairs(batches: Sequence[pa.RecordBatch], names: Sequence[str]) -> Indices:
    """Two columns of all batches, [n, 2]."""
    columns = [np.concatenate([numbers(batch.column(name)) for batch in batches]) for name in names]
    return np.stack(columns, axis=1).astype(np.int64)


def _kept_in_full(source: Source, wanted: Sequence[Indices], side: int) -> bool:
    """Whether recipe 1 shrank none of the images: no longer side is ``side`` or more."""
    tasks = zip(source.tasks, wanted, strict=True)
    return all(source.extents(task.name, indices).max(initial=0) < side for task, indices in tasks)


def _write(
    path: Path, source: Source, places: Sequence[tuple[str, int]], size: int, augmentation: Augmentation
) -> None:
    def decode(place: tuple[str, int]) -> tuple[npt.NDArray[np.uint8], tuple[int, int]]:
        image = open_image(io.BytesIO(source.read(*place)), source.location(*place))
        full = image.height, image.width
        return np.asarray(training_original(image, augmentation.smallest(*full), size)), full

    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        # Pillow releases the GIL while it decodes; a batch is decoded while the one before it is written.
        decoded = ahead(decode, places, threads=min(16, os.cpu_count() or 1), reach=_BATCH)
        with pa.OSFile(str(partial), "wb") as sink, pa.ipc.new_file(sink, _SCHEMA) as writer:
            while batch := list(islice(decoded, _BATCH)):
                images = [image for image, _ in batch]
                sizes = np.array([(*image.shape[:2], *full) for image, full in batch], np.int32)
                columns = [*map(from_numbers, sizes.T), from_bytes(images)]
                writer.write_batch(pa.record_batch(columns, schema=_SCHEMA))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
