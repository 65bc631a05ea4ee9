"""``orchestrator schema``: the JSON schema of study files, for editors."""

from __future__ import annotations

import typer


def add_to(app: typer.Typer) -> None:
    app.command("schema", epilog="orchestrator schema > study.schema.json")(schema)


def schema() -> None:
    """Print the JSON schema of study files, for editors."""
    from orchestrator.cli.console import print_json
    from orchestrator.study.schema import study_schema

    print_json(study_schema())
