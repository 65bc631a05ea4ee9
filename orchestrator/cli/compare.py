"""``orchestrator compare``: every method of the paper's tables on one dataset, and the tables themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mmap_model.errors import InputError
from orchestrator.cli.lists import ListOptions, number_list
from orchestrator.cli.options import AsJson, Overrides
from orchestrator.cli.showing import Events
from orchestrator.redaction import redact

if TYPE_CHECKING:
    from orchestrator.compare.comparison import Comparison


def add_to(app: typer.Typer) -> None:
    app.command("compare", cls=ListOptions)(compare)


def compare(
    dataset: Annotated[
        str,
        typer.Argument(
            metavar="DATASET", help="symbols, office_home, mini_domainnet, a study file, or a dataset's name."
        ),
    ],
    overrides: Overrides = None,
    methods: Annotated[
        list[str] | None,
        typer.Option(
            help="Columns: table (default), ablation, 2026 (newer methods), grouped (groups behind other "
            "methods), single ones as coop_mt mmap, or my_file.py:MyMethod."
        ),
    ] = None,
    shots: Annotated[list[int] | None, number_list("Splits, in place of the study's.")] = None,
    seeds: Annotated[list[int] | None, number_list("Seeds, in place of the study's: 1,2,3 or 1-3.")] = None,
    model: Annotated[str | None, typer.Option(help="Backbone, in place of the study's.")] = None,
    tune: Annotated[
        int, typer.Option(min=0, metavar="N", help="Try N learning rates for every column, on validation.")
    ] = 0,
    rates: Annotated[
        str | None,
        typer.Option(
            metavar="WHICH",
            help="Which rates to try: the same for every column, or around each column's own published one, "
            "and further while the best lies at an end (with 2026 and grouped).",
        ),
    ] = None,
    recipes: Annotated[
        list[str] | None,
        typer.Option(
            help="To train without a search: shared (default; the study's), published (the authors'); "
            "tuned alone for none."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for tables and figures; reports/NAME if not given.")
    ] = None,
    retry_failed: Annotated[bool, typer.Option(help="Train cells again that failed before.")] = False,
    events: Events = None,
    as_json: AsJson = False,
) -> int:
    """Compare tuning methods; print the paper's tables.

    Trains what is missing on one dataset; the same command resumes one that was stopped. Tables and
    figures are written as CSV, Markdown, LaTeX, PNG and PDF.
    """
    from orchestrator.cli.console import DONE, FAILED, err, out, print_json
    from orchestrator.cli.showing import display
    from orchestrator.cli.sweep import command_line, tell_end
    from orchestrator.compare.plan import plan_comparison
    from orchestrator.driver.compare import run_comparison
    from orchestrator.driver.invocation import Options
    from orchestrator.ledger import Ledger, StudyStore, check_writable
    from orchestrator.notices.addresses import check_addresses
    from orchestrator.slots.cluster import check_cluster
    from orchestrator.submission import plan_for_job
    from orchestrator.terminal.recorder import STDOUT
    from orchestrator.tracking.backends import check_tracking
    from orchestrator.work.shown import PhaseShown

    with display(events) as progress:
        plan = plan_comparison(
            dataset,
            overrides or (),
            methods=methods or (),
            shots=shots or (),
            seeds=seeds or (),
            model=model,
            tune=tune,
            rates=which_rates(rates),
            recipes=recipes or (),
        )
        plan = replace(plan, base=plan_for_job(plan.base))
        study = plan.base.study
        check_cluster()
        check_writable(study.storage)
        check_tracking(study.tracking.resolved_uri, study.tracking.backend)
        check_addresses(study.notify)
        outcome = run_comparison(
            plan, progress, retry_failed=retry_failed, options=Options(command=command_line())
        )
        progress(PhaseShown(name="results"))
        from orchestrator.compare.assemble import assemble
        from orchestrator.reports.comparison import show, write_report

        store, ledger = StudyStore(study.storage, study.name), Ledger(study.storage)
        found = assemble(plan, store, ledger)
        folder = output or Path("reports") / found.name
        written = write_report(found, folder)
        arguments = {
            "dataset": dataset,
            "overrides": [redact(text) for text in overrides or ()],
            "methods": list(methods or ()),
            "shots": list(shots or ()),
            "seeds": list(seeds or ()),
            "model": model,
            "tune": tune,
            **({"rates": rates} if rates else {}),
            **({"recipes": list(recipes)} if recipes else {}),
        }
        if (page := _write_page(found, arguments, folder)) is not None:
            written.append(page)
    console = err() if events == STDOUT else out()
    if as_json and events != STDOUT:
        print_json({**json.loads(found.to_json()), "tracking": outcome.told.to_dict()})
    else:
        show(found, console)
        console.print(f"{len(written)} files: {folder}", markup=False)
    for line in (*store.damaged, *ledger.damaged):
        err().print(f"Damaged record: {line}", markup=False)
    if (code := tell_end(outcome)) is not None:
        return code
    failed = [entry for entry in found.entries if entry.error]
    for entry in failed:
        err().print(f"No result: {entry.column}, {entry.split}: {entry.error}", markup=False)
    if failed:
        err().print("Columns that failed are trained again with --retry-failed.")
    return FAILED if failed or outcome.lost or outcome.unscored else DONE


def which_rates(given: str | None) -> Literal["same", "own"] | None:
    """What ``--rates`` says. Raises InputError for another word."""
    match given:
        case None | "same" | "own":
            return given
    raise InputError(f"{given!r} says nothing of rates", where="--rates", fix="use same or own")


def found_again(arguments: Mapping[str, Any], storage: str | None) -> Comparison:
    """The comparison of a command's arguments, from its records; trains nothing."""
    from orchestrator.compare.assemble import assemble
    from orchestrator.compare.plan import plan_comparison
    from orchestrator.ledger import Ledger, StudyStore

    given = dict(arguments)
    overrides = [*given.pop("overrides"), *([f"storage={storage}"] if storage else [])]
    plan = plan_comparison(given.pop("dataset"), overrides, **given)
    study = plan.base.study
    return assemble(plan, StudyStore(study.storage, study.name), Ledger(study.storage))


def _write_page(found: Comparison, arguments: Mapping[str, Any], folder: Path) -> Path | None:
    """The tables as a page with figures, where plotly is installed."""
    from datetime import UTC, datetime
    from importlib.util import find_spec

    from orchestrator.reports.page.make import make_comparison_page

    if find_spec("plotly") is None:
        return None
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "report.html"
    partial = folder / ".report.html.partial"
    partial.write_text(make_comparison_page(found, arguments, made=made), "utf-8")
    partial.replace(page)
    return page
