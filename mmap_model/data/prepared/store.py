"""Reading a prepared store: kilobytes to open it, then only the parts that are asked for, mapped."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, Generic, Protocol, TypeVar, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mmap_model.data.arrays import booleans, numbers
from mmap_model.data.dataset import OfficialSplit
from mmap_model.data.prepared.layout import INDEX, MANIFEST, StoredTask, StorePlan, part_path
from mmap_model.data.prepared.parts import EvaluationPart, OriginalsPart
from mmap_model.errors import DatasetError

Indices = npt.NDArray[np.int64]

MAPPED_PARTS = 32
"""Parts of one view that a process keeps mapped: enough for several tasks and replicates at once. Pages of a
part that is let go stay in the machine's page cache."""


class StoreFiles(Protocol):
    """Where a store lies, here or far away."""

    @property
    def location(self) -> str:
        """For people."""
        ...

    def path(self, name: str) -> Path:
        """A file of the store on this machine, by its relative path. Raises FileNotFoundError."""
        ...


class LocalFiles:
    """A store in a folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def location(self) -> str:
        return str(self._folder)

    def path(self, name: str) -> Path:
        return self._folder / name


class Store:
    """A store as it was written. Opening it reads the manifest and maps the index.

    Attributes:
        plan: what it holds.
        location: where it lies, for people.

    Raises:
        DatasetError: no whole store lies there, or one of another format.
    """

    def __init__(self, files: StoreFiles) -> None:
        self.location = files.location
        try:
            document: dict[str, Any] = json.loads(files.path(MANIFEST).read_text(encoding="utf-8"))
            self.plan = StorePlan.from_dict(document, files.location)
            index = pa.ipc.open_file(pa.memory_map(str(files.path(INDEX))))
        except FileNotFoundError:
            raise DatasetError(
                f"{files.location} is not a whole store",
                where="dataset.store",
                fix="run: orchestrator data prepare … --output THERE (it resumes)",
            ) from None
        self.bytes: dict[str, int] = document["bytes"]
        self.sha256: str = document["sha256"]
        self._numbers = {task.name: number for number, task in enumerate(self.plan.tasks)}
        self._rows = [index.get_batch(number) for number in range(len(self.plan.tasks))]
        self._originals = _Mapped(lambda name: OriginalsPart(files.path(name)))
        self._evaluation = _Mapped(lambda name: EvaluationPart(files.path(name), self.plan.side))

    def task(self, name: str) -> StoredTask:
        """The stored task of that name."""
        return self.plan.tasks[self._numbers[name]]

    def ids(self, task: str) -> Sequence[str]:
        return StoredStrings(self._column(task, "id"))

    def labels(self, task: str) -> Indices:
        """Read-only, not copied."""
        return numbers(self._column(task, "label"))

    def sizes(self, task: str) -> Indices:
        """Bytes of the encoded images."""
        return numbers(self._column(task, "size"))

    def extents(self, task: str) -> Indices:
        """Upright (height, width) of the encoded images, [n, 2]."""
        columns = [numbers(self._column(task, name)) for name in ("height", "width")]
        return np.stack(columns, axis=1).astype(np.int64)

    def official(self, task: str) -> OfficialSplit | None:
        """The published division, where the layout had lists of it."""
        column = self._column(task, "official_train")
        if column.null_count:
            return None
        trained = booleans(column)
        return OfficialSplit(np.flatnonzero(trained), np.flatnonzero(~trained))

    def original(self, task: str, index: int) -> pa.Buffer:
        """The encoded image, as a view of the mapped file."""
        part, position = divmod(index, self.plan.part_images)
        return self._originals.get(part_path("originals", self._numbers[task], part))[position]

    def evaluation(self, task: str, indices: Indices) -> npt.NDArray[np.uint8]:
        """Evaluation views uint8 [n, 3, side, side] of a task that has them, copied."""
        assert self.task(task).evaluated
        found = np.empty((len(indices), 3, self.plan.side, self.plan.side), np.uint8)
        parts, positions = np.divmod(indices, self.plan.part_images)
        for part in np.unique(parts).tolist():
            rows = np.flatnonzero(parts == part)
            pixels = self._evaluation.get(part_path("evaluation", self._numbers[task], part)).pixels
            for row in rows.tolist():
                found[row] = pixels[positions[row]]
        return found

    def _column(self, task: str, name: str) -> pa.Array:
        return self._rows[self._numbers[task]].column(name)


class StoredStrings(Sequence[str]):
    """Strings of a mapped column, made when asked for."""

    def __init__(self, column: pa.Array) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return StoredStrings(self._column[index])
        return str(self._column[index].as_py())


Part = TypeVar("Part")


class _Mapped(Generic[Part]):
    """The parts used last, mapped; from any thread."""

    def __init__(self, open_part: Callable[[str], Part]) -> None:
        self._open = open_part
        self._parts: OrderedDict[str, Part] = OrderedDict()
        self._lock = Lock()

    def get(self, name: str) -> Part:
        with self._lock:
            if name not in self._parts:
                self._parts[name] = self._open(name)
                if len(self._parts) > MAPPED_PARTS:
                    self._parts.popitem(last=False)
            self._parts.move_to_end(name)
            return self._parts[name]
