"""``orchestrator ui``: the web page of a study's runs, MLflow's or optuna-dashboard's."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.options import Overrides, Storage, StudyName
from orchestrator.redaction import shown_uri

if TYPE_CHECKING:
    from orchestrator.face.stored import Stored
    from orchestrator.study import Tracking
    from orchestrator.tracking import Backend, Connection

MLFLOW_PORT, OPTUNA_PORT = 5000, 8080


def add_to(app: typer.Typer) -> None:
    app.command("ui")(ui)


def ui(
    study: StudyName,
    overrides: Overrides = None,
    storage: Storage = None,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port of the page.", show_default="5000; with --optuna 8080"),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    optuna: Annotated[
        bool, typer.Option("--optuna", help="Show the trials in optuna-dashboard instead, from the records.")
    ] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="With --optuna: keep the page current while the study runs.")
    ] = False,
    browser: Annotated[bool, typer.Option("--open", help="Open the page in this machine's browser.")] = False,
) -> int:
    """Show the runs of a study in MLflow (end with Ctrl-C).

    Prints the address of this study's own runs once the page answers. With --optuna its trials in
    optuna-dashboard.
    """
    if follow and not optuna:
        raise typer.BadParameter("--follow goes with --optuna; the page of MLflow is current by itself")
    if optuna:
        if overrides:
            raise typer.BadParameter("--optuna shows the study as it is recorded, without overrides")
        return _optuna(study, storage, host, port or OPTUNA_PORT, follow, browser)
    return _runs(study, overrides, storage, host, port or MLFLOW_PORT, browser)


def _runs(
    study: str, overrides: list[str] | None, storage: str | None, host: str, port: int, browser: bool
) -> int:
    from mmap_model.errors import InputError
    from orchestrator.cli.console import err
    from orchestrator.pages.served import Served
    from orchestrator.terminal import Activity
    from orchestrator.tracking.backends import find_backend, shortcomings

    tracking, stored = _tracking(study, overrides, storage)
    uri = tracking.resolved_uri
    backend = find_backend(uri, tracking.backend)
    page = backend.page(uri, host, port)
    if page is None:
        raise InputError(
            ". ".join([f"the runs of {study} are in {shown_uri(uri)}", *shortcomings(backend)]),
            where="tracking.uri",
            fix="look there, or send them to MLflow: orchestrator track STUDY --to sqlite:///mlflow.db",
        )

    if not page.command:
        _show_runs(study, page.address, backend, uri, _connection(tracking, stored), browser)
        return 0
    served = Served(
        page.command, page.address, host=host, port=port, variables=page.variables, health=page.health
    )
    with served:
        with Activity(err(), f"Starting the page on {shown_uri(uri)}"):
            served.wait()
        _show_runs(study, page.address, backend, page.address, _connection(tracking, stored), browser)
        err().print("Ctrl-C ends the page")
        served.watch()
    return 0


def _show_runs(
    study: str, address: str, backend: type[Backend], base: str, to: Connection | None, browser: bool
) -> None:
    """The address of a study's own runs; of the page, with the reason, where there is none."""
    from orchestrator.cli.console import err
    from orchestrator.tracking.backend import TrackingError

    if to is not None:
        try:
            address = backend.address(base, to)
        except TrackingError as error:
            err().print(str(error), markup=False)
    _show(f"The runs of {study} are at", address, browser)


def _show(what: str, address: str, browser: bool) -> None:
    import webbrowser

    from orchestrator.cli.console import err, out

    out().print(f"{what} {address}", markup=False, soft_wrap=True)
    if browser and not webbrowser.open(address):
        err().print("No browser could be started here: open the address in one")


def _optuna(study: str, storage: str | None, host: str, port: int, follow: bool, browser: bool) -> int:
    from orchestrator.cli.console import err
    from orchestrator.face.stored import find_stored
    from orchestrator.pages.optuna_page import optuna_page

    stored = find_stored(study, storage)
    store, objectives = stored.store, stored.study.search.aim.objectives
    opened = optuna_page(store.name, store.load_trials, objectives)
    with opened as page, page.served(host, port) as address:
        _show(f"The trials of {study} are at", address, browser)
        err().print(f"The study's file is {page.file}. Ctrl-C ends the page and removes it", markup=False)
        ended = threading.Event()
        if follow:
            page.follow(ended)
        ended.wait()
    return 0


def _connection(tracking: Tracking, stored: Stored | None) -> Connection | None:
    """What is told there of the study; None if it was never run."""
    from orchestrator.tracking import Connection
    from orchestrator.tracking.parameters import varying

    if stored is None:
        return None
    store = stored.store
    return Connection(
        uri=tracking.resolved_uri, experiment=store.name, study=store.id, varies=varying(stored.study)
    )


def _tracking(study: str, overrides: list[str] | None, storage: str | None) -> tuple[Tracking, Stored | None]:
    """Where the runs of a study are, and its records if it was run."""
    from orchestrator.face.stored import find_stored
    from orchestrator.study import StudyError, load_study

    try:
        stored = find_stored(study, storage)
    except StudyError:
        if storage is not None:
            raise
        return load_study(study, overrides or []).tracking, None
    if overrides:
        return load_study(study, overrides).tracking, stored
    return stored.study.tracking, stored
