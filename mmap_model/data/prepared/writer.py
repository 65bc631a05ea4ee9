"""Preparing a store: in parallel, resumable at any moment, the same bytes however often interrupted."""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import json
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from importlib.metadata import version
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmap_model.data.prepared.layout import (
    INDEX,
    INDEX_SCHEMA,
    MANIFEST,
    PARTS,
    PLAN,
    ROWS,
    VIEWS,
    StoredTask,
    StorePlan,
    file_sha256,
)
from mmap_model.data.prepared.parts import PartWritten, read_rows, write_part
from mmap_model.data.sources.base import Source
from mmap_model.errors import DatasetError
from mmap_model.references import ClassCarrier

Advance = Callable[[PartWritten, bool], None]
"""Told of every part, and whether an earlier call had written it."""


def plan_store(
    source: Source,
    *,
    side: int,
    evaluated: frozenset[str] | None = None,
    part_images: int | None = None,
) -> StorePlan:
    """What a store of ``source`` will hold.

    Args:
        source: whose images are stored.
        side: of the evaluation view, pixels.
        evaluated: tasks that get the evaluation view; None: all.
        part_images: images of a part; None: `PART_IMAGES`.
    """
    tasks = tuple(
        StoredTask(
            name=task.name,
            classes=task.classes,
            class_keys=source.class_keys(task.name),
            images=len(source.ids(task.name)),
            evaluated=evaluated is None or task.name in evaluated,
        )
        for task in source.tasks
    )
    return StorePlan(
        dataset=source.name,
        manifest=source.manifest,
        side=side,
        tasks=tasks,
        versions={name: version(name) for name in ("numpy", "pillow", "pyarrow")},
        **({} if part_images is None else {"part_images": part_images}),
    )


def write_store(
    source: Source,
    folder: Path,
    plan: StorePlan,
    *,
    workers: int = 1,
    advance: Advance = lambda written, before: None,
) -> str:
    """Write the store of ``plan`` into ``folder``, going on with what an earlier call left there.

    Args:
        source: picklable where there are several workers.
        folder: created if missing; holds nothing else.
        plan: from `plan_store`.
        workers: processes that read and decode; this one only waits, unless there is just one.
        advance: progress.

    Returns:
        The store's hash: equal for equal stores, 64 hexadecimal digits.

    Raises:
        DatasetError: an image that cannot be read or decoded; a folder with something else in it, a store of
            something else, or one that another process is writing.
    """
    with _locked(folder):
        finished = _read_json(folder / MANIFEST)
        if finished is not None:
            _tidy(folder)
            return _finished_hash(folder, plan, finished)
        _start(folder, plan)
        written: dict[tuple[int, int], PartWritten] = {}
        missing = []
        for place in plan.parts():
            found = read_rows(folder, plan, *place)
            if found is None:
                missing.append(place)
            else:
                written[place] = found[1]
                advance(found[1], True)
        for place, part in _write_parts(source, folder, plan, missing, workers):
            written[place] = part
            advance(part, False)
        return _finish(folder, plan, written)


def verify_store(folder: Path) -> list[str]:
    """Paths of files that are missing or not as they were written; reads everything."""
    parts = _read_json(folder / PARTS) or {}
    return [
        name
        for name, (size, digest) in parts.items()
        if not (folder / name).is_file()
        or (folder / name).stat().st_size != size
        or file_sha256(folder / name) != digest
    ]


def _write_parts(
    source: Source, folder: Path, plan: StorePlan, missing: list[tuple[int, int]], workers: int
) -> Iterator[tuple[tuple[int, int], PartWritten]]:
    if workers == 1:
        for place in missing:
            yield place, write_part(folder, plan, source, *place)
        return
    # Processes of their own, not forks: this one may have threads that hold locks.
    pool = ProcessPoolExecutor(
        min(workers, max(1, len(missing))),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(ClassCarrier(), source, folder, plan),
    )
    try:
        left = iter(missing)
        running: dict[Future[PartWritten], tuple[int, int]] = {}
        while True:
            for place in itertools.islice(left, 2 * workers - len(running)):
                running[pool.submit(_write_part, *place)] = place
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_WORK: list[tuple[Path, StorePlan, Source]] = []
"""In a worker process: what it writes where."""


def _start_worker(_: ClassCarrier, source: Source, folder: Path, plan: StorePlan) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    _WORK.append((folder, plan, source))


def _leave_with_parent() -> None:
    """A parent that was killed cannot tell its workers to stop."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait_for([parent.sentinel])
    os._exit(1)


def _write_part(task: int, part: int) -> PartWritten:
    folder, plan, source = _WORK[0]
    return write_part(folder, plan, source, task, part)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process prepares a folder at a time; the lock goes with the process however it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DatasetError(
                f"another process is writing {folder}", fix="wait for it; the same command then goes on"
            ) from None
        yield


def _start(folder: Path, plan: StorePlan) -> None:
    """Leave in the folder only what belongs to the plan. Raises DatasetError for files of someone else."""
    known = {PLAN, PARTS, INDEX, ROWS, *VIEWS}
    foreign = sorted(e.name for e in folder.iterdir() if e.name not in known and not e.name.startswith("."))
    before = _read_json(folder / PLAN)
    if foreign or (before is None and any((folder / name).exists() for name in (ROWS, *VIEWS))):
        raise DatasetError(
            f"{folder} holds other files ({', '.join(foreign[:3]) or 'a store without a plan'})",
            where="--output",
            fix="give a new or empty folder",
        )
    if before != plan.to_dict():
        for name in (ROWS, *VIEWS):
            shutil.rmtree(folder / name, ignore_errors=True)
    for name in (ROWS, *VIEWS):
        (folder / name).mkdir(exist_ok=True)
        for partial in (folder / name).glob(".*"):
            partial.unlink()
    _write_json(folder / PLAN, plan.to_dict())


def _finish(folder: Path, plan: StorePlan, written: dict[tuple[int, int], PartWritten]) -> str:
    """Join the index, then write the manifest, then remove what only preparing needed."""
    partial = folder / f".{INDEX}"
    by_task: dict[int, list[pa.RecordBatch]] = {number: [] for number in range(len(plan.tasks))}
    for place in plan.parts():
        found = read_rows(folder, plan, *place)
        assert found is not None, "every part was written"
        by_task[place[0]].append(found[0])
    with pa.OSFile(str(partial), "wb") as sink, pa.ipc.new_file(sink, INDEX_SCHEMA) as writer:
        for rows in by_task.values():
            writer.write_batch(pa.Table.from_batches(rows, INDEX_SCHEMA).combine_chunks().to_batches()[0])
    partial.replace(folder / INDEX)
    parts: dict[str, Any] = {
        name: about for place in plan.parts() for name, about in written[place].files.items()
    }
    parts[INDEX] = ((folder / INDEX).stat().st_size, file_sha256(folder / INDEX))
    _write_json(folder / PARTS, parts)
    views: dict[str, int] = {
        view: sum(size for name, (size, _) in parts.items() if name.startswith(f"{view}/")) for view in VIEWS
    }
    document: dict[str, Any] = {
        **plan.to_dict(),
        "images": sum(task.images for task in plan.tasks),
        "bytes": {**views, "index": parts[INDEX][0]},
        "parts_sha256": file_sha256(folder / PARTS),
    }
    document["sha256"] = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    _write_json(folder / MANIFEST, document)
    _tidy(folder)
    return str(document["sha256"])


def _tidy(folder: Path) -> None:
    """Remove what only an unfinished store needs."""
    shutil.rmtree(folder / ROWS, ignore_errors=True)
    (folder / PLAN).unlink(missing_ok=True)


def _finished_hash(folder: Path, plan: StorePlan, finished: dict[str, Any]) -> str:
    there = StorePlan.from_dict(finished, str(folder))
    if (there.manifest, there.side) != (plan.manifest, plan.side):
        what = (
            f"images of {there.side} pixels, not {plan.side}"
            if there.manifest == plan.manifest
            else "other images"
        )
        raise DatasetError(
            f"{folder} is a store of {what}", where="--output", fix="give another folder, or remove this one"
        )
    missing = [
        task.name for task, own in zip(plan.tasks, there.tasks, strict=True) if task.evaluated > own.evaluated
    ]
    if missing:
        raise DatasetError(
            f"{folder} has no evaluation view of {', '.join(missing)}",
            where="--output",
            fix="remove the folder and prepare it again",
        )
    return str(finished["sha256"])


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return document


def _write_json(path: Path, document: dict[str, Any]) -> None:
    partial = path.with_name(f".{path.name}")
    partial.write_text(json.dumps(document, indent=1), encoding="utf-8")
    partial.replace(path)
