"""The ``orchestrator`` command.

Each command is a module that imports what it needs when it runs: help and params answer at once.
"""

from __future__ import annotations

import errno
import select
import sys
import warnings
from collections.abc import Sequence
from typing import TextIO

import typer
from rich.markup import escape
from typer._click.exceptions import ClickException, UsageError

from cluster.secrets import decrypt_environment
from mmap_model.errors import BackboneWarning, DatasetWarning, InputError
from orchestrator.cli.console import (
    DONE,
    FAILED,
    INTERRUPTED,
    WRONG_INPUT,
    err,
    show_error,
)
from orchestrator.cli.streams import prepare_streams
from orchestrator.cli.tree import root
from orchestrator.redaction import redact, redact_logging


def main() -> None:
    """Entry point: runs the command line and exits."""
    prepare_streams()
    redact_logging()
    warnings.showwarning = _show_warning
    sys.exit(execute(sys.argv[1:]))


def execute(arguments: Sequence[str]) -> int:
    """Run one command line; returns the exit code."""
    try:
        decrypt_environment()
        code = root()(list(arguments), prog_name="orchestrator", standalone_mode=False)
    except InputError as error:
        show_error(error.problem, where=error.where, fix=error.fix)
        return WRONG_INPUT
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        show_error(f"the name is longer than file systems allow: {error.filename}", fix="give another path")
        return WRONG_INPUT
    except UsageError as error:
        command = error.ctx.command_path if error.ctx else "orchestrator"
        near = [name for name in getattr(error, "possibilities", None) or () if not name.startswith("--no-")]
        problem = error.message if near else error.format_message()
        fix = f"did you mean {near[0]}? See {command} --help" if near else f"see {command} --help"
        show_error(problem, where=command, fix=fix)
        return WRONG_INPUT
    except ClickException as error:
        show_error(error.format_message())
        return FAILED
    except typer.Abort as abort:
        return _aborted(abort)
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as end:  # typer's, silently, for any BrokenPipeError: mostly `… | head`
        if isinstance(end.__context__, BrokenPipeError) and not _reader_is_gone():
            raise end.__context__ from None
        raise
    return code if isinstance(code, int) else DONE


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Show warnings about a study's weights and images as text for people, others as Python does."""
    if issubclass(category, BackboneWarning | DatasetWarning) and file is None:
        err().print(f"[yellow]Warning:[/] {escape(redact(str(message)))}", soft_wrap=True)
    else:
        _PLAIN_WARNING(message, category, filename, lineno, file, line)


_PLAIN_WARNING = warnings.showwarning


def _reader_is_gone() -> bool:
    """Whether nobody reads what this process prints any more."""
    poll = select.poll()
    for descriptor in (1, 2):
        poll.register(descriptor, 0)  # hang-ups and errors are told of anyway
    return bool(poll.poll(0))


def _aborted(abort: typer.Abort) -> int:
    """The exit code of a command that typer took for aborted.

    It says the same of Ctrl-C, of a question that found its input at an end, and of any EOFError that a
    command let through, which is a defect and must be seen.
    """
    if isinstance(abort.__cause__, EOFError):
        raise abort.__cause__
    if isinstance(abort.__context__, EOFError):
        show_error(
            "the question above has no answer: standard input is at its end",
            fix="run it in a terminal, or with the option that answers it, such as --yes",
        )
        return WRONG_INPUT
    return INTERRUPTED
