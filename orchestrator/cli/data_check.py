"""``orchestrator data check``: what is wrong with the images of a study, before it starts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.lists import ListOptions, number_list
from orchestrator.cli.options import AsJson, Overrides

if TYPE_CHECKING:
    from mmap_model.data.check import Report
    from mmap_model.data.faults import Fault
    from mmap_model.data.sources import Source
    from orchestrator.study import Study

SHOWN = 3
"""Findings of one kind that are shown."""


def add_to(app: typer.Typer) -> None:
    app.command(
        "check",
        cls=ListOptions,
        epilog="For example:  orchestrator data check office_home dataset.root=~/OfficeHome",
    )(check)


def check(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A study, its file, or a layout of images.")
    ],
    overrides: Overrides = None,
    fix: Annotated[
        bool,
        typer.Option("--fix", help="Record what to leave out. No file is changed or removed."),
    ] = False,
    shots: Annotated[
        list[int] | None,
        number_list("Training images per class, the most if several; a study has its own.", min=1),
    ] = None,
    show_all: Annotated[bool, typer.Option("--all", help="Show every finding.")] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Threads that decode; as many as cores if not given.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Read every image and say what is wrong, and what would be done about it.

    Exit code 0: a study can run on what is there, whatever warnings there are; 1: it cannot.
    """
    from dataclasses import replace

    from mmap_model.data.check import Shots, check_source
    from mmap_model.data.sources import list_source
    from mmap_model.data.sources.excluded import add_excluded, excluded_path
    from orchestrator.cli.console import DONE, FAILED, print_json
    from orchestrator.cli.data_prepare import bar
    from orchestrator.cli.data_source import load_study_or_layout
    from orchestrator.study.machine import this_machine

    study, is_study = load_study_or_layout(source, overrides or ())
    spec = study.dataset
    record = excluded_path(spec)
    if fix and record is not None:
        _check_writable(record)
        if spec.excluded is not None and not record.exists():
            add_excluded(record, [])
    images = list_source(spec)
    asked = max(shots) if shots else (study.shots_before_validation if is_study else None)
    wanted = None
    if asked is not None and spec.lists is None:
        wanted = Shots(largest=asked, protocol=study.protocol, official=spec.test_source == "official")
    count = sum(len(images.ids(task.name)) for task in images.tasks)
    with bar(f"Checking {count:,} images".replace(",", " "), count, unit="images") as advance:
        report = check_source(images, wanted, workers=workers or this_machine().cores, progress=advance)
    if is_study and spec.lists is not None and (refused := _refused_lists(study, images)):
        report = replace(report, faults=(refused, *report.faults))
    report = replace(report, faults=(*_long_names(study, images), *report.faults))
    left_out = [fault for fault in report.faults if fault.drops]
    if fix and record is not None and left_out:
        add_excluded(record, left_out)
        remaining = list_source(spec)
        report = replace(
            report,
            faults=(
                *(f for f in remaining.faults if f not in report.faults),
                *(f for f in report.faults if not f.drops),
            ),
        )
    found = {
        "dataset": spec.name,
        "root": spec.root,
        **report.to_dict(),
        "left_out": sorted({fault.id for fault in left_out}) if fix else [],
        "record": str(record) if fix and left_out else None,
    }
    if as_json:
        print_json(found)
    else:
        _show(report, found, show_all=show_all)
    return DONE if report.passed else FAILED


def _refused_lists(study: Study, images: Source) -> Fault | None:
    """Why the study would refuse its fixed lists, if it would."""
    from mmap_model.data.dataset import default_cache_dir
    from mmap_model.data.faults import Fault
    from mmap_model.data.sourced import SourceDataset
    from mmap_model.errors import DatasetError
    from orchestrator.study.draws import check_fixed_lists

    try:
        check_fixed_lists(study, SourceDataset(images, study.dataset, default_cache_dir()))
    except DatasetError as error:
        return Fault("fixed_lists", f"{error.problem}; {error.fix}", str(study.dataset.lists))
    return None


def _long_names(study: Study, images: Source) -> list[Fault]:
    """Classes whose prompts do not fit into the text tower of the study's backbone."""
    from mmap_model.architecture import read_architecture
    from mmap_model.class_texts import check_template, unfit
    from mmap_model.data.faults import Fault
    from mmap_model.methods import get_method

    texts = get_method(study.method).texts(study.settings, study.recipe.template)
    check_template(texts)
    architecture = read_architecture(study.backbone.model)
    return [
        Fault("long_name", found.problem, f"{task.name}/{found.name}", task.name)
        for task in images.tasks
        for found in unfit(texts, task.classes, architecture)
    ]


def _check_writable(record: Path) -> None:
    """Raise DatasetError before all images are read if nothing can be recorded afterwards."""
    from mmap_model.errors import DatasetError

    if not record.parent.is_dir() or not os.access(record.parent, os.W_OK):
        raise DatasetError(
            f"{record} cannot be written",
            where="--fix",
            fix="set dataset.excluded to a file in a folder of yours, for check and study alike",
        )


def _show(report: Report, found: dict[str, Any], *, show_all: bool) -> None:
    from orchestrator.cli.console import out
    from orchestrator.tables.words import duration, integer

    console = out()
    kinds: dict[str, list[Fault]] = {}
    for fault in report.faults:
        kinds.setdefault(fault.kind, []).append(fault)
    for faults in kinds.values():
        _show_kind(console, faults, show_all=show_all)
    total = sum(report.images.values())
    published = "" if report.published in (None, total) else f" ({integer(report.published)} are published)"
    tasks = ", ".join(f"{name} {integer(images)}" for name, images in report.images.items())
    console.print(f"{integer(total)} images{published}: {tasks}; {duration(report.seconds)}", markup=False)
    if found["record"]:
        console.print(
            f"{integer(len(found['left_out']))} images are left out from now on, as {found['record']} says; "
            "remove that file to take them back",
            markup=False,
        )
    verdict = "[green]passed[/]" if report.passed else "[red]not passed[/]"
    if not report.faults:
        console.print(f"{verdict}: nothing is wrong")
        return
    counts = [
        f"{integer(number)} {name}{'s' * (number != 1)}"
        for name in ("error", "warning", "note")
        if (number := sum(fault.severity == name for fault in report.faults))
    ]
    console.print(f"{verdict}: {', '.join(counts)}")


def _show_kind(console: Any, faults: list[Fault], *, show_all: bool) -> None:
    """One kind of finding: how many, what is done, and some of them."""
    from rich.text import Text

    from mmap_model.data.faults import KINDS
    from orchestrator.tables.words import integer

    kind = KINDS[faults[0].kind]
    colour = {"error": "red", "warning": "yellow", "note": "dim"}[kind.severity]
    console.print(
        Text.assemble((f"{kind.severity}", f"bold {colour}"), f"  {integer(len(faults))} × {kind.title}: ")
        + Text(kind.remedy, "italic")
    )
    shown = faults if show_all else faults[:SHOWN]
    for fault in shown:
        console.print(Text(f"    {fault.where}: {fault.problem}"), soft_wrap=True)
    if len(faults) > len(shown):
        console.print(Text(f"    and {integer(len(faults) - len(shown))} more (--all)", "dim"))
