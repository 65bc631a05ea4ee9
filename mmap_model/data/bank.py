"""Images of several tasks by row number: kept in memory where they fit, read when asked where they do not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmap_model.data.ahead import ahead
from mmap_model.data.transfer import to_device
from mmap_model.out_of_memory import is_out_of_memory

Indices = npt.NDArray[np.int64]
Fetch = Callable[[int, Indices], tuple[Tensor, Tensor]]
"""(task number, indices) to images uint8 [n, 3, S, S] and extents int64 [n, 2]."""

MEMORY_LIMIT = 2 << 30
"""Bytes of images that one bank keeps."""


class ImageBank:
    """The union of some draws' images, task after task, without repetition.

    Args:
        fetch: reads images of one task.
        wanted: by replicate and task, the indices that will be asked for.
        device: where images are delivered; banks in memory keep them there.
        limit: bytes above which nothing is kept.
    """

    def __init__(
        self,
        fetch: Fetch,
        wanted: Sequence[Sequence[Indices]],
        *,
        device: torch.device | str,
        limit: int = MEMORY_LIMIT,
    ) -> None:
        self._fetch = fetch
        self._device = torch.device(device)
        self._members = [np.unique(np.concatenate(draws)) for draws in zip(*wanted, strict=True)]
        self._starts = np.cumsum([0, *(len(m) for m in self._members)])
        self._kept: tuple[Tensor, Tensor] | None = None
        if 0 < self._size() <= limit:
            try:
                self._kept = self._read_all()
            except Exception as error:
                # Then images are read when they are asked for, as where there are too many of them.
                if not is_out_of_memory(error):
                    raise

    @property
    def in_memory(self) -> bool:
        return self._kept is not None

    def rows(self, task: int, indices: Indices) -> Indices:
        """Row numbers of images of a task."""
        rows: Indices = self._starts[task] + np.searchsorted(self._members[task], indices)
        return rows

    def take(self, rows: Indices) -> tuple[Tensor, Tensor]:
        """Images uint8 [n, 3, S, S] on the device and extents [n, 2] on the host, of rows [n].

        Extents stay where crops are counted: fetched from a device they would make the host wait for it.
        """
        if self._kept is not None:
            images, extents = self._kept
            numbers = torch.from_numpy(rows)
            return images[to_device(numbers, self._device)], extents[numbers]
        task_of = np.searchsorted(self._starts, rows, side="right") - 1
        taken: tuple[Tensor, Tensor] | None = None
        for task in np.unique(task_of).tolist():
            mine = np.flatnonzero(task_of == task)
            found = self._fetch(task, self._members[task][rows[mine] - self._starts[task]])
            if len(mine) == len(rows):
                taken = found
                break
            if taken is None:
                images, extents = (part.new_empty(len(rows), *part.shape[1:]) for part in found)
                taken = images, extents
            for whole, part in zip(taken, found, strict=True):
                whole[mine] = part
        assert taken is not None, "rows are asked for"
        return to_device(taken[0], self._device), taken[1]

    def stream(self, batches: Iterable[Indices]) -> Iterator[tuple[Tensor, Tensor]]:
        """`take` of one batch of rows after another; files are read one batch ahead."""
        if self.in_memory:
            yield from map(self.take, batches)
            return
        yield from ahead(self.take, batches, threads=1, reach=1)

    def _read_all(self) -> tuple[Tensor, Tensor]:
        parts = [self._fetch(t, m) for t, m in enumerate(self._members) if len(m)]
        images, extents = (torch.cat(column) for column in zip(*parts, strict=True))
        return images.to(self._device), extents

    def _size(self) -> int:
        for task, members in enumerate(self._members):
            if len(members):
                return int(self._fetch(task, members[:1])[0].numel() * self._starts[-1])
        return 0
