"""``orchestrator report``: what studies found, as one HTML page with figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.options import AsJson, Storage

if TYPE_CHECKING:
    from orchestrator.face.stored import Stored


def add_to(app: typer.Typer) -> None:
    app.command("report")(report)


def report(
    studies: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="STUDY…", help="A packaged study such as [bold]demo[/], a .yaml file, or a stored name."
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Page to write, here or as s3://…; STUDY.html if not given."),
    ] = None,
    no_test: Annotated[bool, typer.Option("--no-test", help="Leave out numbers on test images.")] = False,
    images: Annotated[
        int,
        typer.Option(
            min=0,
            max=200,
            metavar="N",
            help="Show the N most confident mistakes as thumbnails: images may not be yours to publish.",
        ),
    ] = 0,
    tables: Annotated[
        str | None,
        typer.Option(metavar="FORMATS", help="Write the ranking beside the page too, e.g. csv,tex."),
    ] = None,
    check: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Compute every number of a page again from the records; exit 1 at the first that differs.",
        ),
    ] = None,
    storage: Storage = None,
    as_json: AsJson = False,
) -> int:
    """Write what a study found as one HTML page; compare several.

    The page needs no network.
    """
    from mmap_model.errors import InputError

    if check is not None:
        if studies:
            raise InputError(
                "a page names its studies itself", where="--check", fix=f"leave out {' '.join(studies)}"
            )
        return _check(check, storage, as_json)
    if not studies:
        raise InputError("no study is given", where="STUDY", fix="name one: orchestrator report demo")
    return _write(studies, out, storage, as_json, no_test=no_test, images=images, tables=tables)


def _write(
    names: list[str],
    out: str | None,
    storage: str | None,
    as_json: bool,
    *,
    no_test: bool,
    images: int,
    tables: str | None,
) -> int:
    from datetime import UTC, datetime

    from orchestrator.cli.console import DONE, err, print_json
    from orchestrator.cli.console import out as console
    from orchestrator.face.stored import find_stored, name_and_storage
    from orchestrator.reports.page.evidence import PageOptions
    from orchestrator.reports.page.file import PageFile
    from orchestrator.reports.page.make import make_page
    from orchestrator.submission import check_path, in_ray_job
    from orchestrator.tables.registry import get_format
    from orchestrator.tables.words import size
    from orchestrator.terminal import Activity

    formats = [get_format(name.strip(), "--tables") for name in (tables or "").split(",") if name.strip()]
    if in_ray_job():
        for name in names:
            check_path(
                "--storage", name_and_storage(name, storage)[1], "give its path: --storage s3://bucket/runs"
            )
        check_path("--out", out or "", "give a path that outlives the job: --out s3://bucket/report.html")
    stored = [find_stored(name, storage) for name in names]
    file = PageFile(out or f"{'-'.join(study.store.name for study in stored)[:80]}.html")
    file.check_free()
    for study in stored:
        _refuse_comparison(study)
    with Activity(err(), "Making the page"):
        page = make_page(
            [(study.store, study.ledger) for study in stored],
            PageOptions(test=not no_test, images=images),
            made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            links=[_links(study) for study in stored],
            thumbnails=_thumbnails(stored) if images else None,
        )
    written = [file.write(page.html)]
    for form in formats:
        for study, evidence in zip(stored, page.studies, strict=True):
            from orchestrator.reports.ranking import report as document

            text = form.write(document(evidence.results, layout=form.layout))
            suffix = f".{study.store.name}" if len(stored) > 1 else ""
            written.append(file.beside(f"{suffix}.{form.suffix}").write(text))
    for evidence in page.studies:
        for line in evidence.results["damaged"]:
            err().print(f"Damaged record: {line}", markup=False, soft_wrap=True)
    if as_json:
        print_json([{"file": shown, "bytes": count} for shown, count in written])
    else:
        for shown, count in written:
            console().print(f"{shown} ({size(count)})", markup=False, soft_wrap=True)
    return DONE


def _check(file: str, storage: str | None, as_json: bool) -> int:
    from orchestrator.cli.compare import found_again
    from orchestrator.cli.console import DONE, FAILED, err, print_json
    from orchestrator.cli.console import out as console
    from orchestrator.face.stored import find_stored
    from orchestrator.reports.page.file import PageFile
    from orchestrator.reports.page.make import check_page, made_by, software_version, storage_of
    from orchestrator.terminal import Activity

    page = PageFile(file)
    text = page.read()

    def open_study(name: str, named: str) -> Any:
        found = find_stored(name, storage_of(named, storage, page.shown))
        return found.store, found.ledger

    with Activity(err(), "Computing every number again"):
        found = check_page(text, open_study, page.shown, lambda arguments: found_again(arguments, storage))
    if as_json:
        said = (
            {"place": found.place, "record": found.record, "page": found.page, "records": found.records}
            if found
            else None
        )
        print_json({"file": page.shown, "holds": found is None, "difference": said})
    elif found is None:
        console().print(f"Every number of {page.shown} matches the records.", markup=False, soft_wrap=True)
    else:
        err().print(f"{page.shown}: {found.in_words()}", markup=False, soft_wrap=True)
        if (made := made_by(text)) not in ("", software_version()):
            note = (
                f"The page was made by version {made} and checked by {software_version()}: words may differ."
            )
            err().print(note, markup=False, soft_wrap=True)
    return DONE if found is None else FAILED


def _refuse_comparison(stored: Stored) -> None:
    """The rows of a comparison are no trials; its command writes its page."""
    from mmap_model.errors import InputError
    from orchestrator.study import COMPARISON

    if stored.store.name.startswith(COMPARISON) and not stored.store.trial_numbers():
        raise InputError(
            f"{stored.store.name} is a comparison of methods, not a study with trials",
            where="STUDY",
            fix="its page is report.html in the folder that orchestrator compare writes",
        )


def _links(stored: Stored) -> dict[str, str]:
    """Addresses of runs, where tracking is a server that answers."""
    from orchestrator.face.run_links import run_links

    return run_links(stored)


def _thumbnails(stored: list[Stored]) -> Any:
    """What opens images of the studies, each from its own dataset."""
    from orchestrator.reports.page.thumbnails import thumbnails

    specs = {study.store.name: study.study.dataset for study in stored}

    def open_images(evidence: Any, wanted: Any) -> Any:
        manifest = (evidence.store.load_inputs() or {}).get("manifest")
        return thumbnails(specs[evidence.name], manifest, wanted)

    return open_images
