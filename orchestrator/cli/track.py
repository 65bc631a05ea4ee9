"""``orchestrator track``: tell MLflow, or another tracker, all of a study again, from its records."""

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
        typer.Option("--to", metavar="URI", help="Another place than the study's own: http://…, sqlite:///…"),
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option("--backend", metavar="CLASS", help="With --to: a custom tracker, file.py:MyTracker."),
    ] = None,
    storage: Storage = None,
    as_json: AsJson = False,
) -> int:
    """Send the records of a study to its tracker again.

    Nothing is sent twice, and what is there already stays.
    """
    from mmap_model.errors import InputError
    from orchestrator.cli.console import DONE, FAILED, err, out, print_json
    from orchestrator.compare.columns import recorded_run_name
    from orchestrator.face.page_file import write_page
    from orchestrator.face.stored import find_stored
    from orchestrator.study import Tracking
    from orchestrator.terminal import Activity
    from orchestrator.tracking.backends import check_tracking, shortcomings
    from orchestrator.tracking.telling import tell_study

    stored = find_stored(study, storage)
    if backend and not to:
        raise InputError("it goes with --to", where="--backend", fix="give the URI that it serves: --to URI")
    own = stored.study.tracking
    where = Tracking(uri=to, backend=backend) if to else own
    kind = check_tracking(where.resolved_uri, where.backend, where="--to" if to else "tracking.uri")
    with Activity(err(), "Sending a study to its tracker") as activity:
        retold = tell_study(
            stored.study,
            stored.store,
            stored.ledger,
            where,
            show=lambda rows: activity.at(f"{rows} trials and other rows sent"),
            note=activity.say,
            label=recorded_run_name,
            report=write_page,
        )
    if as_json:
        print_json({"study": stored.store.name, **retold.to_dict()})
    else:
        out().print(f"{retold.rows} trials and other rows sent to {retold.uri}", markup=False)
    _explain(retold)
    for line in shortcomings(kind):
        err().print(line, markup=False)
    return DONE if retold.told.note is None else FAILED


def _explain(retold: Retold) -> None:
    from orchestrator.cli.console import err

    for line in retold.missing[:SHOWN]:
        err().print(f"Not in the records: {line}", markup=False)
    if (more := len(retold.missing) - SHOWN) > 0:
        err().print(f"Not in the records: {more} more; --json lists all")
    if retold.told.note:
        err().print(retold.told.note, markup=False)
