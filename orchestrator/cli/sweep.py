"""``orchestrator sweep``: run a study to its end, from wherever it stands, and print its ranking."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.options import AsJson, Overrides, StudyName
from orchestrator.cli.showing import Events
from orchestrator.redaction import redact

if TYPE_CHECKING:
    from orchestrator.driver import Outcome
    from orchestrator.ledger import Ledger, StudyStore
    from orchestrator.study import StudyPlan
    from orchestrator.work.shown import Progress


TOLD = 2
"""Statements of the verdict that a notice holds: the winner, and how good it is."""


def add_to(app: typer.Typer) -> None:
    app.command("sweep")(sweep)


def sweep(
    study: StudyName,
    overrides: Overrides = None,
    retry_failed: Annotated[bool, typer.Option(help="Train cells again that failed before.")] = False,
    final_is_ok: Annotated[
        bool,
        typer.Option(
            "--final-is-ok",
            help="Exit 0 even if trials failed permanently, which a restart would not change. "
            "For launchers that start again what fails.",
        ),
    ] = False,
    events: Events = None,
    as_json: AsJson = False,
) -> int:
    """Run a study, or resume it, and print its ranking."""
    from orchestrator.driver import run_study
    from orchestrator.driver.invocation import Options
    from orchestrator.face.page_file import write_page
    from orchestrator.study import load_plan
    from orchestrator.submission import plan_for_job

    options = Options(command=command_line(), winner=winner_in_words, report=write_page)
    return run_and_report(
        lambda: plan_for_job(load_plan(study, overrides or ())),
        lambda plan, progress: run_study(plan, progress, retry_failed=retry_failed, options=options),
        events=events,
        as_json=as_json,
        final_is_ok=final_is_ok,
    )


def run_and_report(
    load: Callable[[], StudyPlan],
    run: Callable[[StudyPlan, Progress], Outcome],
    *,
    events: str | None,
    as_json: bool,
    final_is_ok: bool = False,
) -> int:
    """Plan, check what is written to, run, all under a display; print the ranking; returns the exit code.

    Args:
        load: plans the study.
        run: the driver.
        events: file that takes what is shown, see ``EventRecorder``.
        as_json: print the results as JSON.
        final_is_ok: trials that failed for good are no failure; those whose workers were lost are, and rows
            that could not be scored: another start may change that.
    """
    from orchestrator.cli.console import DONE, FAILED, err, print_json, show
    from orchestrator.cli.results import document, with_stopping
    from orchestrator.cli.showing import display
    from orchestrator.face.stored import find_stored
    from orchestrator.ledger import check_writable
    from orchestrator.notices.addresses import check_addresses
    from orchestrator.slots.cluster import check_cluster
    from orchestrator.statistics.ranking import build_results
    from orchestrator.terminal.recorder import STDOUT
    from orchestrator.tracking.backends import check_tracking
    from orchestrator.work.shown import PhaseShown

    with display(events) as progress:
        plan = load()
        check_cluster()
        check_writable(plan.study.storage)
        check_tracking(plan.study.tracking.resolved_uri, plan.study.tracking.backend)
        check_addresses(plan.study.notify)
        _ = plan.fingerprint  # weights that cannot be had are told of now, not by every worker
        outcome = run(plan, progress)
        progress(PhaseShown(name="results"))
        stored = find_stored(plan.study.name, plan.study.storage)
        found = with_stopping(build_results(stored.store, stored.ledger), stored)
    if events == STDOUT:
        show(document(found, stored), console=err())
    elif as_json:
        print_json({**found, "tracking": outcome.told.to_dict()})
    else:
        show(document(found, stored))
    if (code := tell_end(outcome)) is not None:
        return code
    failed = any(trial["state"] == "failed" for trial in found["trials"])
    again = bool(outcome.lost or outcome.unscored)
    if final_is_ok and failed and not again:
        err().print(f"Exit code 0 instead of {FAILED} (--final-is-ok): another start would change nothing.")
        return DONE
    return FAILED if failed or again else DONE


def tell_end(outcome: Outcome) -> int | None:
    """Say below the results how a run ended and which rows lack a test score; a code if it was cut short."""
    from orchestrator.cli.console import FAILED, INTERRUPTED, err, show_error

    if outcome.note:
        err().print(outcome.note, markup=False)
    if outcome.state == "interrupted":
        err().print("Stopped; everything finished is kept. The same command continues.")
        return outcome.exit_code or INTERRUPTED
    if outcome.state == "failed":
        show_error(outcome.error or "it could not go on", fix=outcome.fix)
        return FAILED
    for name, reason in outcome.unscored.items():
        row = f"trial {name}" if name.isdecimal() else name
        err().print(f"Not scored on the test images: {row}: {reason}", markup=False)
    if outcome.unscored:
        err().print("The same command tries again.")
    return None


def winner_in_words(store: StudyStore, ledger: Ledger) -> str:
    """What a study found, for those who are told of its end."""
    from orchestrator.reports.verdict import verdict
    from orchestrator.statistics.ranking import build_results

    statements = verdict(build_results(store, ledger)).statements
    return "\n".join(f"{each.name}: {each.text}" for each in statements[:TOLD])


def command_line() -> str:
    """What the user typed, for the records; no secrets."""
    return redact(shlex.join(["orchestrator", *sys.argv[1:]]))
