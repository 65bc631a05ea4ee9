"""A run under a display, from its first check to its results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from orchestrator.work.shown import Progress

Events = Annotated[
    str | None,
    typer.Option(
        "--events",
        metavar="FILE",
        help="Append everything that is shown to FILE, as JSON lines; - for standard output, which then has "
        "nothing else.",
    ),
]


@contextmanager
def display(events: str | None = None) -> Iterator[Progress]:
    """What a run shows goes to standard error, and to the file of ``--events``."""
    from orchestrator.cli.console import err
    from orchestrator.terminal import open_display
    from orchestrator.terminal.recorder import EventRecorder
    from orchestrator.work.shown import PhaseShown

    with EventRecorder(events) if events else nullcontext() as recorder, open_display(err()) as shown:
        progress = shown.apply if recorder is None else recorder.beside(shown.apply)
        progress(PhaseShown(name="checking"))
        yield progress
