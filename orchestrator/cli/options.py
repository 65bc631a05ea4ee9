"""Arguments and options that several commands take."""

from __future__ import annotations

from typing import Annotated

import typer

StudyName = Annotated[
    str, typer.Argument(metavar="STUDY", help="A packaged study such as [bold]demo[/], or a .yaml file.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE", help="Overrides with dotted keys, e.g. search.trials=40 seeds=1,2,3."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document, for scripts.")]
Storage = Annotated[
    str | None,
    typer.Option(help="Where the records are, if not where the study says: a folder or s3://…"),
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Dashboard of the cluster; else $RAY_API_SERVER_ADDRESS, $RAY_ADDRESS, this machine.",
    ),
]
Prefer = Annotated[
    str | None,
    typer.Option(
        metavar="RULE",
        help="Which trial of the Pareto front goes on: knee, an objective such as accuracy, or a constraint "
        "such as 'parameters<=20000'.",
    ),
]
