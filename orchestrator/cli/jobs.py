"""``orchestrator jobs``, ``logs`` and ``stop``: the jobs that run studies on a cluster."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from orchestrator.cli.options import Address, AsJson

JobName = Annotated[str, typer.Argument(metavar="STUDY", help="A study, or the id of a job.")]


def add_to(app: typer.Typer) -> None:
    app.command("jobs")(jobs)
    app.command("logs")(logs)
    app.command("stop")(stop)


def jobs(address: Address = None, as_json: AsJson = False) -> None:
    """List the jobs of a cluster, the latest first."""
    from cluster.connect import connect
    from orchestrator.cli.console import print_json, show
    from orchestrator.redaction import redact
    from orchestrator.tables import Paragraph, Table, label

    found = connect(address).all()
    if as_json:
        print_json([{**asdict(job), "command": redact(job.command)} for job in found])
        return
    table = Table.of(
        [
            (label("job"), lambda job: job.id),
            (label("study"), lambda job: job.study),
            (label("state"), lambda job: job.state),
            (label("started"), lambda job: _time(job.started)),
            (label("took"), lambda job: _took(job.started, job.ended)),
            (label("records"), lambda job: job.storage),
        ],
        found,
    )
    show(table if found else Paragraph("No job of this cluster runs a study."))


def logs(
    name: JobName,
    address: Address = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until the job ends.")] = False,
) -> int:
    """Print the log of a study on a cluster."""
    from cluster.connect import connect
    from orchestrator.cli.console import DONE, INTERRUPTED
    from orchestrator.cli.submit import report, write

    server = connect(address)
    job = server.find(name)
    if not follow:
        write(server.logs(job.id))
        return DONE
    try:
        return report(server.follow(job.id, write))
    except KeyboardInterrupt:
        return INTERRUPTED


def stop(name: JobName, address: Address = None) -> None:
    """Stop the job of a study.

    It saves its work first; submitting the study again resumes it.
    """
    from cluster.connect import connect
    from orchestrator.cli.console import out

    server = connect(address)
    job = server.find(name)
    if job.over:
        out().print(f"{job.id} is over: {job.state}", markup=False)
        return
    ended = server.stop(job.id)
    out().print(f"{ended.id} {ended.state}; everything finished is kept", markup=False)


def _time(seconds: float | None) -> str:
    from datetime import UTC, datetime

    return "" if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _took(started: float | None, ended: float | None) -> str:
    import time

    from orchestrator.tables.words import duration

    return "" if started is None else duration((ended or time.time()) - started)
