"""Prepared stores as sources: where they are found, and what they give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mmap_model.data.dataset import DatasetSpec, OfficialSplit, choose_tasks
from mmap_model.data.prepared.layout import MANIFEST
from mmap_model.data.prepared.remote import RemoteFiles, is_remote
from mmap_model.data.prepared.store import LocalFiles, Store
from mmap_model.data.sources.base import NO_ALIASES, Indices, Source
from mmap_model.data.sources.selection import select
from mmap_model.errors import DatasetError
from mmap_model.paths import expanded


class StoredSource(Source):
    """The images of a store, or of some of its tasks: as encoded, under the names their layout gave them.

    Args:
        store: whose images they are.
        spec: the tasks wanted.
        aliases: of the layout's tasks; see `Source`.

    Raises:
        DatasetError: the store is of another layout, or lacks a task.
    """

    def __init__(self, store: Store, spec: DatasetSpec, aliases: Mapping[str, str] = NO_ALIASES) -> None:
        plan = store.plan
        if spec.name != plan.dataset:
            raise DatasetError(
                f"{store.location} was prepared from {plan.dataset!r}, not from {spec.name!r}",
                where="dataset.name",
                fix=f"set dataset.name={plan.dataset}, or give another dataset.store",
            )
        self._store = store
        self.name = plan.dataset
        self.aliases = aliases
        chosen = choose_tasks(spec, [task.name for task in plan.tasks])
        self.tasks = tuple(store.task(name).info for name in chosen)

    @property
    def far(self) -> bool:
        return is_remote(self._store.location)

    @cached_property
    def manifest(self) -> str:
        plan = self._store.plan
        whole = [task.name for task in self.tasks] == [task.name for task in plan.tasks]
        return plan.manifest if whole else super().manifest

    def class_keys(self, task: str) -> tuple[str, ...]:
        return self._store.task(task).class_keys

    def ids(self, task: str) -> Sequence[str]:
        return self._store.ids(task)

    def labels(self, task: str) -> Indices:
        return self._store.labels(task)

    def sizes(self, task: str) -> Indices:
        return self._store.sizes(task)

    def read(self, task: str, index: int) -> bytes:
        return bytes(self._store.original(task, index))

    def location(self, task: str, index: int) -> str:
        return f"{self._store.location}: {self.ids(task)[index]}"

    def extents(self, task: str, indices: Indices) -> Indices:
        return self._store.extents(task)[indices]

    def evaluation(self, task: str, indices: Indices, side: int) -> npt.NDArray[np.uint8] | None:
        ready = side == self._store.plan.side and self._store.task(task).evaluated
        return self._store.evaluation(task, indices) if ready else None

    def official(self, task: str) -> OfficialSplit | None:
        return self._store.official(task)


def open_store(location: str, cache_dir: Path) -> Store:
    """The store in a folder or at a URI of ``pyarrow.fs``. Raises DatasetError where no whole store lies."""
    if is_remote(location):
        return Store(RemoteFiles(location, cache_dir))
    return Store(LocalFiles(expanded(location.removeprefix("file://"))))


def stored_source(store: Store, spec: DatasetSpec, aliases: Mapping[str, str] = NO_ALIASES) -> Source:
    """What ``spec`` wants of a store. Raises DatasetError where it does not hold that."""
    return select(StoredSource(store, spec, aliases), spec)


def default_store(cache_dir: Path, source: Source) -> Path:
    """The folder of the store of a source that is given no other place."""
    return cache_dir / "stores" / f"{source.name}-{source.manifest[:16]}"


def find_store(cache_dir: Path, source: Source, spec: DatasetSpec) -> Store | None:
    """The store of these images, or of these among others, if one was prepared in the default place."""
    exact = default_store(cache_dir, source)
    for folder in dict.fromkeys([exact, *sorted(exact.parent.glob(f"{source.name}-*"))]):
        if (folder / MANIFEST).is_file():
            store = Store(LocalFiles(folder))
            if folder == exact or _holds(store, source, spec):
                return store
    return None


def _holds(store: Store, source: Source, spec: DatasetSpec) -> bool:
    stored = {task.name: set(task.class_keys) for task in store.plan.tasks}
    alike = all(set(source.class_keys(t.name)) <= stored.get(t.name, set()) for t in source.tasks)
    return alike and stored_source(store, spec).manifest == source.manifest
