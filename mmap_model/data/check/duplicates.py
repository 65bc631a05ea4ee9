"""Images of equal bytes: within a class, under two labels, in training and test, in two tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mmap_model.data.faults import Fault
from mmap_model.data.sources.base import Source


@dataclass(frozen=True)
class _Copy:
    """One of several equal images."""

    task: str
    index: int
    label: str
    in_test: bool


def duplicates(source: Source, digests: Mapping[str, Sequence[bytes]]) -> Iterator[Fault]:
    """One fault for every image that would be left out.

    Args:
        source: the images.
        digests: of their bytes, by task; empty ones are not compared.
    """
    groups: dict[bytes, list[_Copy]] = {}
    for task in source.tasks:
        keys, labels = source.class_keys(task.name), source.labels(task.name).tolist()
        split = source.official(task.name)
        in_test = set() if split is None else set(split.test.tolist())
        for index, digest in enumerate(digests[task.name]):
            if digest:
                copy = _Copy(task.name, index, keys[labels[index]], index in in_test)
                groups.setdefault(digest, []).append(copy)
    for group in groups.values():
        if len(group) > 1:
            yield from _judge(source, group)


def _judge(source: Source, group: Sequence[_Copy]) -> Iterator[Fault]:
    kept: _Copy | None = None
    for task in dict.fromkeys(copy.task for copy in group):
        own = [copy for copy in group if copy.task == task]
        if len({copy.label for copy in own}) > 1:
            for copy in own:
                other = next(c for c in own if c.label != copy.label)
                yield _fault(source, "duplicate_label", copy, other)
            continue
        # A test image is kept before training images: what is measured stays what was published.
        first, *others = sorted(own, key=lambda copy: (not copy.in_test, copy.index))
        for copy in others:
            across = first.in_test and not copy.in_test
            yield _fault(source, "duplicate_split" if across else "duplicate", copy, first)
        if kept is None:
            kept = first
        else:
            yield _fault(source, "duplicate_task", first, kept)


def _fault(source: Source, kind: str, copy: _Copy, other: _Copy) -> Fault:
    other_id = source.ids(other.task)[other.index]
    return Fault(
        kind,
        f"has the same bytes as {other_id}",
        source.location(copy.task, copy.index),
        copy.task,
        source.ids(copy.task)[copy.index],
        int(source.sizes(copy.task)[copy.index]),
    )
