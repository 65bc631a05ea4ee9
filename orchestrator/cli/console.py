"""What commands share: consoles, exit codes, errors on one screen, machine-readable output."""

from __future__ import annotations

import json
import os
import re
import sys
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console, Group
from rich.padding import Padding
from rich.panel import Panel
from rich.text import Text

from orchestrator.printable import printable
from orchestrator.printable.console import SafeConsole
from orchestrator.redaction import redact

if TYPE_CHECKING:
    from orchestrator.tables.document import Block

_CONTROLS = re.compile("[\x7f-\x9f]")
"""Control characters that JSON may hold as they are."""

DONE, FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130


def out() -> Console:
    """Standard output, for results; 100 columns wide where it is no terminal."""
    console = SafeConsole(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 100
    return console


def err() -> Console:
    """Standard error, for errors and progress."""
    return SafeConsole(stderr=True, highlight=False)


def show(*blocks: Block, console: Console | None = None) -> None:
    """Print tables and sentences, on standard output unless another console is given."""
    from orchestrator.tables.document import Section
    from orchestrator.tables.terminal import render

    console = console or out()
    console.print(render(Section("", blocks), console.width), crop=False)


def show_error(problem: str, *, where: str | None = None, fix: str | None = None) -> None:
    """Say what is wrong, where, and what to change; no secrets."""
    parts: list[Any] = [Text(redact(problem))]
    if where:
        parts.insert(0, Text(redact(where), style="bold"))
    if fix:
        parts.append(Padding(Text.assemble(("Fix: ", "bold green"), redact(fix)), (1, 0, 0, 0)))
    err().print(Panel(Group(*parts), title="Error", title_align="left", border_style="red"))


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:  # the same document in ASCII
        text = json.dumps(value, indent=2, allow_nan=False)
    print(_CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def print_document(text: str) -> None:
    """A document in some format on standard output: in UTF-8 as it is, but printable on a terminal."""
    if sys.stdout.isatty():
        print(printable(text), end="")
    else:
        typer.echo(
            text.encode(errors="backslashreplace"), nl=False
        )  # a document is UTF-8, whatever the locale
