"""A table of images: Parquet, Arrow or Feather files with columns of images, labels and tasks.

Images are encoded bytes, or structs with a field ``bytes`` as Hugging Face datasets writes them. Labels are
names, or numbers whose names the table's metadata or ``dataset.class_names`` tell.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmap_model.data.dataset import DatasetSpec, TableColumns, TaskInfo, choose_tasks
from mmap_model.data.faults import Fault
from mmap_model.data.sources.base import Indices, Source
from mmap_model.data.sources.files import readable
from mmap_model.data.sources.registry import register_source
from mmap_model.errors import DatasetError, nearest
from mmap_model.paths import expanded

if TYPE_CHECKING:
    from mmap_model.data.sources.shards import Shard

SUFFIXES = (".parquet", ".arrow", ".feather")
SHAPE = f": a file or folder of {', '.join(SUFFIXES)} files, one image per row"


@dataclass(frozen=True)
class _Rows:
    """One task: its images' ids, labels and bytes, and which row of which shard each is."""

    ids: list[str]
    keys: tuple[str, ...]
    labels: Indices
    sizes: Indices
    shard: Indices
    row: Indices


class TableSource(Source):
    """Rows by task and class; tasks and classes are sorted, rows keep the table's order."""

    name = "table"

    def __init__(self, spec: DatasetSpec) -> None:
        self._shards = _shards(spec)
        columns = [_Columns.read(shard, spec.table) for shard in self._shards]
        tasks = np.concatenate([c.tasks for c in columns])
        labels = np.concatenate([c.labels for c in columns])
        given = None if spec.table.id is None else np.concatenate([c.ids for c in columns])
        sizes = np.concatenate([shard.sizes(spec.table.image) for shard in self._shards])
        counts = [len(c.tasks) for c in columns]
        shard = np.repeat(np.arange(len(counts)), counts)
        row = np.concatenate([np.arange(count) for count in counts])
        known = sorted(set(tasks.tolist()) - {""})
        self._image = spec.table.image
        faults = []
        for number in np.flatnonzero((tasks == "") | (labels == "")).tolist():
            where = f"{self._shards[shard[number]].path}, row {row[number]}"
            faults.append(Fault("bad_line", "has no task or no label", where))
        self.faults = tuple(faults)
        self._rows: dict[str, _Rows] = {}
        infos = []
        for task in choose_tasks(spec, known):
            members = np.flatnonzero((tasks == task) & (labels != ""))
            keys, own = np.unique(labels[members], return_inverse=True)
            order = np.argsort(own, kind="stable")
            members, own = members[order], own[order]
            ids = _ids(task, keys[own], None if given is None else given[members])
            self._rows[task] = _Rows(
                ids, tuple(keys.tolist()), own.astype(np.int64), sizes[members], shard[members], row[members]
            )
            infos.append(TaskInfo(task, tuple(readable(key) for key in keys.tolist())))
        self.tasks = tuple(infos)

    def class_keys(self, task: str) -> tuple[str, ...]:
        return self._rows[task].keys

    def ids(self, task: str) -> Sequence[str]:
        return self._rows[task].ids

    def labels(self, task: str) -> Indices:
        return self._rows[task].labels

    def sizes(self, task: str) -> Indices:
        return self._rows[task].sizes

    def read(self, task: str, index: int) -> bytes:
        rows = self._rows[task]
        shard: Shard = self._shards[rows.shard[index]]
        return shard.read(self._image, int(rows.row[index]))

    def location(self, task: str, index: int) -> str:
        rows = self._rows[task]
        return f"{self._shards[rows.shard[index]].path}, row {rows.row[index]}"

    def path(self, task: str, index: int) -> Path:
        shard: Shard = self._shards[self._rows[task].shard[index]]
        return shard.path

    def reading_order(self, task: str) -> Indices:
        rows = self._rows[task]
        return np.lexsort((rows.row, rows.shard))


@dataclass(frozen=True)
class _Columns:
    """The small columns of one shard, as text; empty where a value is missing."""

    tasks: Any
    labels: Any
    ids: Any

    @classmethod
    def read(cls, shard: Shard, columns: TableColumns) -> _Columns:
        for key in ("image", "label", "task", "id"):
            name = getattr(columns, key)
            if name is not None and name not in shard.names:
                raise DatasetError(
                    f"{shard.path} has no column {name!r}",
                    where=f"dataset.table.{key}",
                    fix=nearest(name, shard.names),
                )
        ids = None if columns.id is None else _text(shard, columns.id)
        return cls(_text(shard, columns.task), _text(shard, columns.label), ids)


def _text(shard: Shard, column: str) -> Any:
    """A column as an array of str; class numbers become names where the metadata has them."""
    names = _label_names(shard.metadata, column)
    values = shard.column(column)
    if names is not None:
        unnamed = next((v for v in values if isinstance(v, int) and not 0 <= v < len(names)), None)
        if unnamed is not None:
            raise DatasetError(
                f"column {column!r} of {shard.path} holds {unnamed}; it has names of 0 to {len(names) - 1}",
                where="dataset.root",
                fix="correct the table",
            )
        values = [names[value] if isinstance(value, int) else value for value in values]
    return np.array(["" if value is None else str(value) for value in values], dtype=object)


def _label_names(metadata: dict[bytes, bytes], column: str) -> list[str] | None:
    """Names of the numbers in a column, as Hugging Face datasets keeps them in a schema's metadata."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        names = features[column]["names"]
        return [str(name) for name in names]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None


def _ids(task: str, classes: Any, given: Any) -> list[str]:
    """``<task>/<class>/<id>``; without a column of ids, numbers in the table's order per class."""
    if given is not None:
        ids = [f"{task}/{c}/{g}" for c, g in zip(classes, given, strict=True)]
        if len(set(ids)) < len(ids):
            twice = next(i for i in ids if ids.count(i) > 1)
            raise DatasetError(
                f"two rows are called {twice}", where="dataset.table.id", fix="name a column of unique ids"
            )
        return ids
    seen: dict[str, int] = {}
    ids = []
    for name in classes:
        seen[name] = seen.get(name, -1) + 1
        ids.append(f"{task}/{name}/{seen[name]:08d}")
    return ids


def _shards(spec: DatasetSpec) -> list[Shard]:
    from mmap_model.data.sources.shards import open_shard  # pyarrow takes a moment to import

    if spec.root is None:
        raise DatasetError("no root is given", where="dataset.root", fix=f"set it to the table{SHAPE}")
    root = expanded(spec.root)
    found = [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.suffix in SUFFIXES)
    if not found or not all(path.suffix in SUFFIXES for path in found):
        raise DatasetError(f"{root} is not a table", where="dataset.root", fix=f"set it to the table{SHAPE}")
    return [open_shard(path) for path in found]


register_source("table", TableSource)
