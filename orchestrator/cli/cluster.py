"""``orchestrator cluster check``: is a running cluster ready for a study, and what fits on it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.options import Address, AsJson, Overrides, Storage

if TYPE_CHECKING:
    from orchestrator.notation import written
    from orchestrator.readiness import ReadinessFinding
    from orchestrator.study import Study

group = typer.Typer(name="cluster", help="Inspect a cluster.", no_args_is_help=True)

CHECK = "cluster-check"
"""What a check is called among the jobs of a cluster."""


def add_to(app: typer.Typer) -> None:
    app.add_typer(group)


@group.callback()
def _group() -> None:
    """Inspect a cluster."""


@group.command("check")
def check(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="Study that will run there.")] = "demo",
    overrides: Overrides = None,
    storage: Storage = None,
    address: Address = None,
    as_json: AsJson = False,
) -> int:
    """Check a running cluster for a study: what fits, and whether all nodes have and see what it needs.

    With $RAY_ADDRESS it looks from this node; else it runs as a short job there. Exit code 1: not ready.
    """
    from orchestrator.cli.console import DONE, FAILED, print_json
    from orchestrator.study import load_study
    from orchestrator.submission import check_paths, in_ray_job

    given = [*(overrides or ()), *([f"storage={written(storage)}"] if storage else [])]
    loaded = load_study(study, given)
    check_paths(loaded)
    if in_ray_job() or (address is None and _is_node_of_cluster()):
        found = [asdict(finding) for finding in inspect(loaded)]
    else:
        found = _look_by_job(study, loaded, given, address)
    if as_json:
        print_json(found)
    else:
        _show(found)
    return FAILED if any(finding["state"] == "error" for finding in found) else DONE


def inspect(study: Study) -> list[ReadinessFinding]:
    """Ask every node of the cluster that ``RAY_ADDRESS`` names."""
    import contextlib
    import os
    import secrets

    from cluster.nodes import ask_every, free_resources, living_nodes
    from mmap_model.errors import InputError
    from orchestrator.ledger import open_storage
    from orchestrator.readiness import judge, look_around, read_marks, write_mark
    from orchestrator.readiness.probe import FOLDER
    from orchestrator.slots import environment
    from orchestrator.submission import for_job
    from orchestrator.submission.paths import local_paths
    from orchestrator.tracking.backends import check_tracking, shortcomings

    environment.prepare()
    from orchestrator.slots.cluster import start_ray

    start_ray(slots=1, cpus=study.slots.cpus, gpus=0.0)
    nodes, free = living_nodes(), free_resources()
    answers = ask_every(nodes, look_around, lambda node: (local_paths(study), study.backbone))
    name = secrets.token_hex(6)
    written = ask_every(nodes, write_mark, lambda node: (study.storage, name, node.id))
    marks = {node: str(answer) for node, answer in written.items()}
    good = [node for node, reason in marks.items() if not reason]
    seen = ask_every(nodes, read_marks, lambda node: (study.storage, name, good))
    unseen = {node: answer if isinstance(answer, list) else good for node, answer in seen.items()}
    with contextlib.suppress(Exception):
        open_storage(study.storage).delete(f"{FOLDER}/{name}")
    tracking, lacks = "", list[str]()
    try:
        where = for_job(study).tracking
        lacks = list(shortcomings(check_tracking(where.resolved_uri, where.backend)))
    except InputError as error:
        tracking = str(error.problem)
    token = os.environ.get("RAY_AUTH_MODE", "").lower() == "token"
    return judge(study, nodes, answers, marks, unseen, tracking=tracking, lacks=lacks, token=token, free=free)


def _look_by_job(name: str, study: Study, overrides: list[str], address: str | None) -> list[dict[str, Any]]:
    """Run this same command as a job on the cluster and read its answer from the log."""
    import dataclasses
    import os

    from cluster.authentication import use_token
    from cluster.connect import connect
    from cluster.errors import ClusterError
    from cluster.working_dir import staged
    from orchestrator.cli.console import err
    from orchestrator.submission import make_request, needed_files
    from orchestrator.submission.request import PACKAGES

    token = use_token(os.environ)
    request = make_request(name, study, overrides, token=token)
    command = [*request.command[:3], "cluster", "check", *request.command[4:], "--json"]
    request = dataclasses.replace(request, study=CHECK, command=command)
    jobs = connect(address)
    files = needed_files(name, study)
    job, _ = jobs.submit(request, lambda: staged(PACKAGES, files))
    err().print(f"Asking the nodes of {jobs.address} (job {job.id})", markup=False)
    job = jobs.wait(job.id)
    log = jobs.logs(job.id)
    start, end = log.find("\n[\n"), log.rfind("\n]")
    if start < 0 or end < start:
        raise ClusterError(
            f"the check did not answer; last log line: {' '.join(log.splitlines()[-1:])}",
            where=job.id,
            fix=f"orchestrator logs {job.id} shows why",
        )
    found: list[dict[str, Any]] = json.loads(log[start : end + 2])
    return found


def _is_node_of_cluster() -> bool:
    """Whether ``RAY_ADDRESS`` names a cluster itself; it may also name the dashboard of one."""
    import os

    from orchestrator.slots.environment import joins_cluster

    return joins_cluster() and not os.environ["RAY_ADDRESS"].startswith("http")


def _show(found: list[dict[str, Any]]) -> None:
    from orchestrator.cli.console import show
    from orchestrator.tables import Table, TableCell
    from orchestrator.tables.model import Look

    looks: dict[str, Look] = {"ok": "good", "warning": "open", "error": "bad"}
    show(
        Table.facts(
            *(
                (
                    finding["name"],
                    TableCell(finding["state"], look=looks[finding["state"]]),
                    finding["text"] + (f"\nFix: {finding['fix']}" if finding["fix"] else ""),
                )
                for finding in found
            )
        )
    )
