"""``orchestrator data prepare``: images laid out once for fast, shared reading."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmap_model.paths import expanded
from orchestrator.cli.options import AsJson, Overrides

if TYPE_CHECKING:
    from mmap_model.data.prepared.layout import StorePlan

DEFAULT_SIDE = 224


def add_to(app: typer.Typer) -> None:
    app.command(
        "prepare",
        epilog="For example:  orchestrator data prepare office_home dataset.root=~/OfficeHome",
    )(prepare)


def prepare(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A study, its file, or a layout of images.")
    ],
    overrides: Overrides = None,
    output: Annotated[
        str | None,
        typer.Option(help="Folder or s3://… of the store. Else: in the cache, where studies find it."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that decode; as many as cores if not given.")
    ] = None,
    side: Annotated[
        int | None, typer.Option(min=1, help="Pixels of the evaluation view; a study's backbone decides it.")
    ] = None,
    evaluated: Annotated[
        list[str] | None, typer.Option(help="Make the evaluation view of this task only. Repeatable.")
    ] = None,
    evaluation: Annotated[bool, typer.Option(help="Make the evaluation view at all.")] = True,
    verify: Annotated[bool, typer.Option(help="Read the finished store again and compare hashes.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a store of a dataset's images, in parallel. Interrupted, the same command goes on."""
    from mmap_model.data import default_cache_dir
    from mmap_model.data.prepared import is_remote, plan_store, upload, verify_store, write_store
    from mmap_model.data.sources import open_source
    from mmap_model.data.stored import default_store
    from mmap_model.errors import DatasetError, nearest
    from orchestrator.cli.console import print_json
    from orchestrator.cli.data_source import load_source
    from orchestrator.redaction import redact
    from orchestrator.study.machine import this_machine

    spec, image_size = load_source(source, overrides or ())
    images = open_source(spec)
    names = [task.name for task in images.tasks]
    for name in evaluated or ():
        if name not in names:
            raise DatasetError(f"no task is named {name!r}", where="--evaluated", fix=nearest(name, names))
    chosen = frozenset(evaluated or names) if evaluation else frozenset()
    plan = plan_store(images, side=side or image_size or DEFAULT_SIDE, evaluated=chosen)
    remote = output if output is not None and is_remote(output) else None
    place = default_store(default_cache_dir(), images)
    folder = expanded(output) if output is not None and remote is None else place
    expected = _expected(plan, sum(int(images.sizes(name).sum()) for name in names))
    _check_room(folder, sum(expected.values()))
    count = sum(task.images for task in plan.tasks)
    with bar(f"Preparing {count:,} images".replace(",", " "), count, unit="images") as advance:
        digest = write_store(
            images,
            folder,
            plan,
            workers=workers or this_machine().cores,
            advance=lambda part, before: advance(part.images),
        )
    if verify and (damaged := verify_store(folder)):
        raise DatasetError(
            f"{len(damaged)} files of {folder} are not as they were written, such as {damaged[0]}",
            fix=f"remove {folder} and prepare it again",
        )
    if remote is not None:
        with bar("Copying", sum(expected.values()), unit="bytes") as advance:
            upload(folder, remote, advance)
    found = {
        "store": str(folder) if remote is None else redact(remote, ()),
        "dataset": plan.dataset,
        "images": count,
        "tasks": {task.name: {"images": task.images, "evaluation": task.evaluated} for task in plan.tasks},
        "side": plan.side,
        "bytes": _written(folder),
        "sha256": digest,
        "default": folder == place and remote is None,
    }
    if as_json:
        print_json(found)
    else:
        _show(found)


def _expected(plan: StorePlan, encoded: int) -> dict[str, int]:
    """Bytes of the views, to a few per mille."""
    views = sum(task.images for task in plan.tasks if task.evaluated) * 3 * plan.side**2
    return {"originals": encoded, "evaluation": views}


def _check_room(folder: Path, needed: int) -> None:
    """Raise DatasetError before anything is written that will not fit."""
    import shutil

    from mmap_model.data.prepared.cache import size_of
    from mmap_model.errors import DatasetError
    from orchestrator.tables.words import size

    present = size_of(folder) if folder.exists() else 0
    exists = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(exists).free
    if needed - present > free:
        raise DatasetError(
            f"the store takes {size(needed - present)} more, {exists} has {size(free)} left",
            where="--output",
            fix="give a place with room, name fewer dataset.tasks, or use --no-evaluation",
        )


def _written(folder: Path) -> dict[str, int]:
    from mmap_model.data.prepared import LocalFiles, Store

    return Store(LocalFiles(folder)).bytes


@contextmanager
def bar(title: str, total: int, *, unit: str) -> Iterator[Any]:
    """A progress bar, or lines in a log, on standard error; gives a function that takes how much is done."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from orchestrator.cli.console import err
    from orchestrator.tables.words import size
    from orchestrator.terminal import Activity
    from orchestrator.terminal.display import redraws

    if not redraws(err()):
        done = 0

        def advance(more: int) -> None:
            nonlocal done
            done += more

        def look() -> str:
            return f"{size(done)} of {size(total)}" if unit == "bytes" else f"{done} of {total} {unit}"

        with Activity(err(), title, look):
            yield advance
        return
    amount = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), amount, TimeRemainingColumn())
    with Progress(*columns, console=err(), transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda more: progress.advance(task, more)


def _show(found: dict[str, Any]) -> None:
    from orchestrator.cli.console import out
    from orchestrator.tables.words import integer, size

    console, sizes = out(), found["bytes"]
    viewed = [name for name, task in found["tasks"].items() if task["evaluation"]]
    console.print(f"{integer(found['images'])} images of {found['dataset']}: {found['store']}", markup=False)
    view = f"{size(sizes['evaluation'])} at {found['side']} pixels" if viewed else "none"
    console.print(f"originals {size(sizes['originals'])}, evaluation view {view}")
    console.print(f"sha256 {found['sha256']}", style="dim")
    if not found["default"]:
        console.print(f"Use it with:  dataset.store={found['store']}", markup=False)
