"""Class lists that do not agree between tasks."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterator

from mmap_model.data.faults import Fault
from mmap_model.data.sources.base import Source, loose

ALIKE = 0.8
"""Ratio of `difflib` from which two names, each missing where the other is, count as one name misspelt."""


def class_lists(source: Source) -> Iterator[Fault]:
    """Names that differ between tasks only in writing, and classes that only some tasks have.

    Where the layout itself asks for every class in every task, listing has told the latter.
    """
    having: dict[str, list[str]] = {}
    for task in source.tasks:
        for key in source.class_keys(task.name):
            having.setdefault(key, []).append(task.name)
    everywhere = len(source.tasks)
    partial = {key: tasks for key, tasks in having.items() if len(tasks) < everywhere}
    explained = set()
    for key, tasks in partial.items():
        other = _same_name(key, tasks, partial)
        if other is not None:
            explained |= {key, other}
            if key < other:
                here, there = ", ".join(tasks), ", ".join(partial[other])
                problem = f"{key!r} in {here} and {other!r} in {there} seem to be one class"
                yield Fault("class_name", problem, f"class {key!r}", tasks[0])
    if any(fault.kind == "missing_class" for fault in source.faults):
        return
    for key, tasks in partial.items():
        if key not in explained:
            missing = ", ".join(task.name for task in source.tasks if task.name not in tasks)
            problem = f"{key!r} is in {', '.join(tasks)}, not in {missing}"
            yield Fault("class_set", problem, f"class {key!r}", tasks[0])


def _same_name(key: str, tasks: list[str], partial: dict[str, list[str]]) -> str | None:
    """Another class that is written almost like this one and is never in a task with it."""
    best, found = ALIKE, None
    for other, elsewhere in partial.items():
        if other != key and not set(tasks) & set(elsewhere):
            ratio = difflib.SequenceMatcher(None, _written(key), _written(other)).ratio()
            if ratio >= best:
                best, found = ratio, other
    return found


def _written(name: str) -> str:
    return loose(unicodedata.normalize("NFKC", name))
