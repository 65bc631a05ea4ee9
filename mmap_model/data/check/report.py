"""A whole dataset, checked on several threads."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from typing import Any

from mmap_model.data.check.classes import class_lists
from mmap_model.data.check.duplicates import duplicates
from mmap_model.data.check.images import inspect
from mmap_model.data.check.names import portable_names
from mmap_model.data.check.shots import Shots, scarce_classes
from mmap_model.data.faults import Fault
from mmap_model.data.sources.base import Source
from mmap_model.errors import DatasetError

CHUNK = 64
"""Images that a thread takes at a time."""

ImagesRead = Callable[[int], None]
"""Takes how many more images were looked at."""


@dataclass(frozen=True)
class Report:
    """What a check found.

    Attributes:
        faults: errors first, then warnings, then notes.
        images: looked at, by task.
        published: how many there should be, where known.
        seconds: it took.
    """

    faults: tuple[Fault, ...]
    images: dict[str, int]
    published: int | None
    seconds: float

    @property
    def passed(self) -> bool:
        """No error: a study can run on these images."""
        return not any(fault.severity == "error" for fault in self.faults)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "passed": self.passed,
            "images": self.images,
            "published": self.published,
            "counts": dict(Counter(fault.kind for fault in self.faults)),
            "faults": [fault.to_dict() for fault in self.faults],
            "seconds": round(self.seconds, 3),
        }


def check_source(
    source: Source,
    shots: Shots | None = None,
    *,
    workers: int = 1,
    progress: ImagesRead = lambda more: None,
) -> Report:
    """Read and decode every image, compare their bytes, compare class lists, count images per class.

    Args:
        source: from `list_source`, so that what listing found is told too.
        shots: what a study asks of every class, if that is to be checked.
        workers: threads; Pillow and hashing let them run side by side.
        progress: told from this thread.
    """
    started = time.perf_counter()
    faults = [*source.faults, *portable_names(source), *class_lists(source)]
    digests: dict[str, list[bytes]] = {}
    with ThreadPoolExecutor(max_workers=workers) as pool:
        try:
            for task in source.tasks:
                order = source.reading_order(task.name).tolist()
                chunks = [order[start : start + CHUNK] for start in range(0, len(order), CHUNK)]
                own = digests[task.name] = [b""] * len(order)
                for found in pool.map(_look, repeat(source), repeat(task.name), chunks):
                    for index, digest, wrong in found:
                        own[index] = digest
                        faults += wrong
                    progress(len(found))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    faults += duplicates(source, digests)
    if shots is not None:
        faults += scarce_classes(source, shots)
    rank = {"error": 0, "warning": 1, "note": 2}
    return Report(
        faults=tuple(sorted(faults, key=lambda fault: rank[fault.severity])),
        images={task.name: len(source.ids(task.name)) for task in source.tasks},
        published=source.published,
        seconds=time.perf_counter() - started,
    )


def _look(source: Source, task: str, indices: Sequence[int]) -> list[tuple[int, bytes, list[Fault]]]:
    """Index, digest and faults of some images; what cannot be decoded has no digest, it is left out."""
    found = []
    ids, sizes = source.ids(task), source.sizes(task)
    for index in indices:
        try:
            encoded = source.read(task, index)
            wrong = inspect(encoded)
        except DatasetError as error:
            encoded, wrong = b"", [("unreadable", error.problem)]
        where = source.location(task, index)
        faults = [Fault(kind, problem, where, task, ids[index], int(sizes[index])) for kind, problem in wrong]
        broken = any(fault.severity == "error" for fault in faults)
        digest = b"" if broken else hashlib.blake2b(encoded, digest_size=16).digest()
        found.append((index, digest, faults))
    return found
