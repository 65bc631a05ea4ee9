"""What a study makes of a source: some of its classes, other words for them, without excluded images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mmap_model.data.dataset import DatasetSpec, OfficialSplit, TaskInfo
from mmap_model.data.faults import Fault
from mmap_model.data.sources.base import Indices, Source, loose
from mmap_model.data.sources.excluded import MISSING, read_excluded
from mmap_model.errors import DatasetError, nearest


def select(source: Source, spec: DatasetSpec) -> Source:
    """``source`` as ``spec`` wants it: classes, class names, excluded images.

    Raises:
        DatasetError: a class that no task has, two classes of one name, or fewer than two in a task.
    """
    excluded = read_excluded(spec)
    if spec.classes is not None or spec.class_names or excluded:
        source = _Selected(source, spec, excluded)
    for task in source.tasks:
        if len(task.classes) < 2 and not any(fault.task == task.name for fault in source.faults):
            raise DatasetError(
                f"task {task.name!r} has {len(task.classes)} class",
                where="dataset.root" if spec.classes is None else "dataset.classes",
                fix="a task needs two classes or more",
            )
    return source


@dataclass(frozen=True)
class _View:
    """One task of the selection: which images of the inner source, and what they are here."""

    keys: tuple[str, ...]
    kept: Indices
    ids: Sequence[str]
    labels: Indices
    sizes: Indices


class _Selected(Source):
    """A source seen through the selection of a study."""

    def __init__(self, inner: Source, spec: DatasetSpec, excluded: Mapping[str, int]) -> None:
        _check_names(inner, spec)
        self._inner = inner
        self.name, self.published, self.aliases = inner.name, inner.published, inner.aliases
        faults = [f for f in inner.faults if excluded.get(f.id) != MISSING or f.kind != "missing_file"]
        wanted = None if spec.classes is None else {loose(name) for name in spec.classes}
        words = {loose(old): new for old, new in (spec.class_names or {}).items()}
        self._views: dict[str, _View] = {}
        tasks = []
        for task in inner.tasks:
            used, names = [], []
            stays = _kept(inner, task.name, excluded)
            counts = np.bincount(inner.labels(task.name)[stays], minlength=len(task.classes))
            for label, (key, name) in enumerate(zip(inner.class_keys(task.name), task.classes, strict=True)):
                if wanted is not None and not wanted & {loose(key), loose(name)}:
                    continue
                if counts[label]:
                    used.append(label)
                    names.append(words.get(loose(key), words.get(loose(name), name)))
                else:
                    problem = f"nothing is left of class {name!r} of task {task.name!r}"
                    faults.append(Fault("empty_class", problem, "excluded images", task.name))
            _check_unique(task.name, names)
            self._views[task.name] = _view(inner, task.name, used, stays)
            tasks.append(TaskInfo(task.name, tuple(names)))
        self.tasks = tuple(tasks)
        self.faults = tuple(faults)

    @property
    def far(self) -> bool:
        return self._inner.far

    def class_keys(self, task: str) -> tuple[str, ...]:
        return self._views[task].keys

    def ids(self, task: str) -> Sequence[str]:
        return self._views[task].ids

    def labels(self, task: str) -> Indices:
        return self._views[task].labels

    def sizes(self, task: str) -> Indices:
        return self._views[task].sizes

    def read(self, task: str, index: int) -> bytes:
        return self._inner.read(task, int(self._views[task].kept[index]))

    def location(self, task: str, index: int) -> str:
        return self._inner.location(task, int(self._views[task].kept[index]))

    def path(self, task: str, index: int) -> Path | None:
        return self._inner.path(task, int(self._views[task].kept[index]))

    def extents(self, task: str, indices: Indices) -> Indices:
        return self._inner.extents(task, self._views[task].kept[indices])

    def evaluation(self, task: str, indices: Indices, side: int) -> npt.NDArray[np.uint8] | None:
        return self._inner.evaluation(task, self._views[task].kept[indices], side)

    def reading_order(self, task: str) -> Indices:
        kept = self._views[task].kept
        order = self._inner.reading_order(task)
        return np.searchsorted(kept, order[np.isin(order, kept)])

    def official(self, task: str) -> OfficialSplit | None:
        whole = self._inner.official(task)
        if whole is None:
            return None
        kept = self._views[task].kept
        train, test = (np.flatnonzero(np.isin(kept, part)) for part in (whole.train, whole.test))
        return OfficialSplit(train, test)


def _kept(source: Source, task: str, excluded: Mapping[str, int]) -> npt.NDArray[np.bool_]:
    """Which images of a task are not excluded as they are now."""
    if not excluded:
        return np.ones(len(source.labels(task)), bool)
    pairs = zip(source.ids(task), source.sizes(task).tolist(), strict=True)
    return np.array([excluded.get(name) != size for name, size in pairs], bool)


def _view(source: Source, task: str, used: Sequence[int], stays: npt.NDArray[np.bool_]) -> _View:
    """The images of the classes ``used``, of those that stay; labels count these classes only."""
    keys, labels, ids = source.class_keys(task), source.labels(task), source.ids(task)
    kept = np.flatnonzero(stays & np.isin(labels, used))
    place = np.full(len(keys), -1)
    place[list(used)] = np.arange(len(used))
    return _View(
        keys=tuple(keys[label] for label in used),
        kept=kept,
        ids=[ids[index] for index in kept.tolist()],
        labels=place[labels[kept]],
        sizes=source.sizes(task)[kept],
    )


def _check_names(source: Source, spec: DatasetSpec) -> None:
    """Every class that the study names must be one."""
    known = {
        loose(name): name for task in source.tasks for name in (*task.classes, *source.class_keys(task.name))
    }
    for where, names in (("dataset.classes", spec.classes), ("dataset.class_names", spec.class_names)):
        for name in names or ():
            if loose(name) not in known:
                raise DatasetError(
                    f"no task of {spec.name!r} has a class {name!r}",
                    where=where,
                    fix=nearest(name, sorted(known.values())),
                )


def _check_unique(task: str, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise DatasetError(
                f"two classes of task {task!r} would be called {name!r}",
                where="dataset.class_names",
                fix="give each class its own words",
            )
