"""``orchestrator cancel``: stop one running trial of a study that runs."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.options import Storage, StudyName


def add_to(app: typer.Typer) -> None:
    app.command("cancel")(cancel)


def cancel(
    study: StudyName,
    trial: Annotated[int, typer.Argument(metavar="TRIAL", min=0, help="Number of a running trial.")],
    storage: Storage = None,
) -> None:
    """Stop one running trial; the study continues with the next."""
    from orchestrator.cli.console import out
    from orchestrator.driver import request_cancel
    from orchestrator.face.stored import find_stored

    stored = find_stored(study, storage)
    request_cancel(stored.store, trial)
    out().print(f"Asked the driver of {stored.store.name} to stop trial {trial}.")
