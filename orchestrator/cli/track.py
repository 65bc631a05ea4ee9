"""``orchestrator track``: tell MLflow all of a study again, from its records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.options import AsJson, Storage, StudyName

if TYPE_CHECKING:
    from orchestrator.tracking.telling import Retold

SHOWN = 20
"""Lines about what the records do not say."""


def add_to(app: typer.Typer) -> None:
    app.command("track")(track)


def track(
    study: StudyName,
    to: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="URI", help="Another MLflow than the study's own: http://…, sqlite:///…"
        ),
    ] = None,
    storage: Storage = None,
    as_json: AsJson = False,
) -> int:
    """Send everything about a study to MLflow again, from its records; what is there already stays."""
    from orchestrator.cli.console import DONE, FAILED, err, out, print_json
    from orchestrator.cli.stored import find_stored
    from orchestrator.compare.columns import recorded_run_name
    from orchestrator.tracking.check import check_tracking
    from orchestrator.tracking.telling import tell_study

    stored = find_stored(study, storage)
    check_tracking(to or stored.study.tracking.resolved_uri, where="--to" if to else None)
    with err().status("Reading the records") as status:
        retold = tell_study(
            stored.study,
            stored.store,
            stored.ledger,
            to,
            show=lambda rows: status.update(f"{rows} trials and other rows sent"),
            note=lambda text: err().print(text, markup=False),
            label=recorded_run_name,
        )
    if as_json:
        print_json({"study": stored.store.name, **retold.to_dict()})
    else:
        out().print(f"{retold.rows} trials and other rows sent to {retold.uri}", markup=False)
    _explain(retold)
    return DONE if retold.told.note is None else FAILED


def _explain(retold: Retold) -> None:
    from orchestrator.cli.console import err

    for line in retold.missing[:SHOWN]:
        err().print(f"Not in the records: {line}", markup=False)
    if (more := len(retold.missing) - SHOWN) > 0:
        err().print(f"Not in the records: {more} more; --json lists all")
    if retold.told.note:
        err().print(retold.told.note, markup=False)
