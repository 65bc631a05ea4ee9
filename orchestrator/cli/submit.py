"""``orchestrator submit``: run a study as a job of a Ray cluster; one that runs is attached to."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.options import Address, Overrides, StudyName

if TYPE_CHECKING:
    from cluster.job import Job
    from orchestrator.study import Study


def add_to(app: typer.Typer) -> None:
    app.command("submit")(submit)


def submit(
    study: StudyName,
    overrides: Overrides = None,
    address: Address = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end and print the ranking.")] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Show what the driver prints until it ends.")
    ] = False,
    retry_failed: Annotated[bool, typer.Option(help="Train cells again that failed before.")] = False,
    secret: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Variable to pass to the job encrypted, e.g. AWS_SECRET_ACCESS_KEY."
        ),
    ] = None,
    include: Annotated[
        list[str] | None, typer.Option(metavar="PATH", help="Further code of yours to send along.")
    ] = None,
) -> int:
    """Run a study on a cluster, or attach to its job.

    The same command resumes a study that was stopped.
    """
    import os

    from cluster.authentication import find_token, use_token
    from cluster.connect import connect, travels_in_the_open
    from cluster.working_dir import staged
    from orchestrator.cli.console import DONE, INTERRUPTED, err, out
    from orchestrator.study import load_study
    from orchestrator.submission import check_paths, make_request, needed_files
    from orchestrator.submission.request import PACKAGES

    given = list(overrides or ())
    loaded = load_study(study, given)
    check_paths(loaded)
    token = use_token(os.environ) and find_token(os.environ)
    request = make_request(study, loaded, given, token=token, secrets=secret or (), retry_failed=retry_failed)
    files = needed_files(study, loaded, include or ())
    jobs = connect(address)
    if token and travels_in_the_open(jobs.address):
        err().print(f"The token goes to {jobs.address} unencrypted; a tunnel or https keeps it secret.")
    job, started = jobs.submit(request, lambda: staged(PACKAGES, files))
    console = out()
    if started:
        console.print(f"Started {job.id} on {jobs.address}; records in {request.shown_storage}", markup=False)
    else:
        console.print(f"{job.id} is {job.state} already; attached, nothing was started", markup=False)
        if unused := _without_effect(job, retry_failed, secret or (), include or ()):
            err().print(
                f"No effect on it: {', '.join(unused)}. It keeps its original settings. "
                f"To apply them: orchestrator stop {job.id}, and submit again; nothing finished is lost.",
                markup=False,
                soft_wrap=True,
            )
    if not (wait or follow):
        there = () if address is None else ("--address", address)
        follow_it = shlex.join(["orchestrator", "logs", "--follow", job.id, *there])
        console.print(f"Follow: {follow_it}", markup=False, soft_wrap=True)
        stop_it = shlex.join(["orchestrator", "stop", job.id, *there])
        console.print(f"Stop:   {stop_it}", markup=False, soft_wrap=True)
        return DONE
    try:
        if follow:
            return report(jobs.follow(job.id, write))
        job = jobs.wait(job.id, lambda job: err().print(f"{job.id} is {job.state}", markup=False))
    except KeyboardInterrupt:
        err().print(
            f"The job goes on. Attach again with the same command; end it: orchestrator stop {job.id}"
        )
        return INTERRUPTED
    shown = _show_ranking(loaded)
    if not shown:
        write(jobs.logs(job.id))
    return report(job)


def _without_effect(
    job: Job, retry_failed: bool, secrets: Sequence[str], include: Sequence[str]
) -> list[str]:
    """Options that a job does not heed because it runs already, unless its command shows them."""
    again = retry_failed and "--retry-failed" not in job.command.split()
    return [
        *(["--retry-failed"] if again else []),
        *(f"--secret {name}" for name in secrets),
        *(f"--include {path}" for path in include),
    ]


def report(job: Job) -> int:
    """Say how a job that is over ended; the exit code of its driver."""
    from orchestrator.cli.console import DONE, FAILED, err, show_error

    if job.state == "succeeded":
        return DONE
    if job.state == "stopped":
        err().print(f"{job.id} was stopped; everything finished is kept. Submitting again continues.")
        return 143
    if job.exit_code in (None, FAILED):
        said = [line for line in job.message.splitlines() if line.strip()] or ["Ray gives no reason"]
        show_error(
            f"{job.id} failed; last log line: {said[-1]}",
            fix=f"orchestrator logs {job.id} shows why; submitting again continues",
        )
    return job.exit_code or FAILED


def _show_ranking(study: Study) -> bool:
    """Print the ranking from the records, if they can be read from here."""
    from mmap_model.errors import InputError
    from orchestrator.cli.console import show
    from orchestrator.cli.results import document, with_stopping
    from orchestrator.face.stored import find_stored
    from orchestrator.statistics.ranking import build_results

    try:
        stored = find_stored(study.name, study.storage)
        found = with_stopping(build_results(stored.store, stored.ledger), stored)
    except (InputError, OSError):
        return False
    show(document(found, stored))
    return True


def write(text: str) -> None:
    import sys

    sys.stdout.write(text)
    sys.stdout.flush()
