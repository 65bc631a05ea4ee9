"""``orchestrator clean``: what lies on disk, and removing what nobody needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.options import AsJson

if TYPE_CHECKING:
    from orchestrator.cleaning import Removable, Survey


def add_to(app: typer.Typer) -> None:
    app.command("clean")(clean)


def clean(
    storage: Annotated[str, typer.Option(help="Where the records are: a folder or s3://…")] = "runs",
    study: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A study to delete, with the cells only it uses.")
    ] = None,
    caches: Annotated[bool, typer.Option("--caches", help="Also remove this machine's caches.")] = False,
    only: Annotated[
        list[str] | None, typer.Option(metavar="KIND", help="Only this kind: cells, states, leftovers, …")
    ] = None,
    dry_run: Annotated[
        bool | None,
        typer.Option("--dry-run/--remove", help="Show, or remove after asking.", show_default="show"),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove without asking.")] = False,
    as_json: AsJson = False,
) -> int:
    """Show what is on disk, and remove what is not needed.

    Nothing is removed without --remove and a yes, or --yes.
    """
    from orchestrator.cleaning import remove, survey
    from orchestrator.cli.console import DONE, INTERRUPTED, err, out, print_json
    from orchestrator.ledger import open_storage
    from orchestrator.tables.words import size

    def tell(text: str) -> None:
        err().print(text, markup=False)

    place = open_storage(storage)
    _check_names(place, study or (), only or (), tell)
    found = survey(place, studies=study or (), caches=caches, tell=tell)
    chosen = [item for item in found.items if not only or item.category in only]
    removing = (yes or dry_run is False) and dry_run is not True
    if as_json and not removing:
        print_json(_plain(found, chosen))
        return DONE
    console = out()
    if not as_json:
        _show(found, chosen, place.locate(""))
    if not removing or not chosen:
        if chosen and not removing:
            console.print("Nothing was removed. Remove it with the same command and --remove")
        return DONE
    if not yes and not typer.confirm(f"Remove these {len(chosen)} items?"):
        console.print("Nothing was removed.")
        return INTERRUPTED
    again = survey(place, studies=study or (), caches=caches, tell=tell)
    gone = remove(place, again.items, {item.path for item in chosen})
    if as_json:
        print_json({"removed": [asdict(item) for item in gone]})
    else:
        console.print(f"Removed {len(gone)} items, {size(sum(item.size for item in gone))}")
    return DONE


def _check_names(place: Any, studies: Any, only: Any, tell: Callable[[str], None]) -> None:
    from mmap_model.errors import nearest
    from orchestrator.cleaning import CATEGORIES
    from orchestrator.cleaning.survey import is_running
    from orchestrator.study.errors import StudyError

    known = place.names("studies")
    for name in studies:
        if name not in known:
            raise StudyError(
                f"there is no study {name!r} in {place.locate('')}",
                where="--study",
                fix=nearest(name, known) if known else "it holds no study",
            )
        if is_running(place, name, tell=tell):
            raise StudyError(
                f"a driver is running study {name!r}",
                where="--study",
                fix="stop it first: orchestrator status says who",
            )
    for kind in only:
        if kind not in CATEGORIES:
            raise StudyError(f"{kind!r} is not a kind of item", where="--only", fix=nearest(kind, CATEGORIES))


def _show(found: Survey, chosen: list[Removable], place: str) -> None:
    from orchestrator.cleaning import CATEGORIES
    from orchestrator.cli.console import show
    from orchestrator.tables import Paragraph, Table
    from orchestrator.tables.words import size

    stays = []
    for study in found.studies:
        running = ", running now" if study.running else ""
        text = f"{study.trials} trials, {study.cells} cells{running}"
        stays.append((f"study {study.name}", text, size(study.size)))
    stays += [(KEPT[kind], str(count), size(total)) for kind, (count, total) in found.kept.items()]
    show(Table.facts(*stays, about=f"In {place}") if stays else Paragraph(f"In {place}: no records"))
    for path in found.unreadable:
        show(
            Paragraph(
                f"{path} cannot be read and may refer to any cell: no finished cell can be removed until it "
                "is restored or removed"
            )
        )
    goes: list[tuple[str, str, str]] = []
    for category, meaning in CATEGORIES.items():
        some = [item for item in chosen if item.category == category]
        if some:
            goes.append((category, f"{len(some)} {meaning}", size(sum(item.size for item in some))))
            goes += [("", f"  {item.path}: {item.reason}", size(item.size)) for item in some[:SHOWN]]
        if len(some) > SHOWN:
            goes.append(("", f"  and {len(some) - SHOWN} more (--json lists all)", ""))
    show(Table.facts(*goes, about="Can be removed:") if goes else Paragraph("Nothing to clean"))


SHOWN = 3
"""Items of a kind that are listed one by one."""

KEPT = {
    "cells": "finished cells",
    "failed": "failed cells",
    "broken": "broken cells that their studies will train again",
    "states": "in-flight states",
    "claims": "claims held",
    "caches": "cached files of this machine",
    "local": "local files of studies on other storages, and news for MLflow",
}


def _plain(found: Survey, chosen: list[Removable]) -> dict[str, Any]:
    return {
        "studies": [{**asdict(study), "driven": study.running} for study in found.studies],
        "kept": {kind: {"count": count, "bytes": size} for kind, (count, size) in found.kept.items()},
        "unreadable": found.unreadable,
        "may_go": [asdict(item) for item in chosen],
    }
