"""``orchestrator data``: the images of a study, before it starts."""

from __future__ import annotations

import typer

from orchestrator.cli import data_check, data_classes, data_draws, data_prepare


def add_to(app: typer.Typer) -> None:
    data = typer.Typer(help="Check and prepare the images of a study.", no_args_is_help=True)
    for module in (data_check, data_prepare, data_classes, data_draws):
        module.add_to(data)
    app.add_typer(data, name="data")
