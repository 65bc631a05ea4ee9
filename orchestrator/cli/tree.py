"""The tree of commands as people see it: groups, paragraphs, flags and the help option."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache
from typing import Any

import typer

from orchestrator.cli.overview import Overview

COMMANDS: Mapping[str, str] = {
    "Studies": "plan sweep status notify cancel confirm compare run",
    "Results": "results audit report ui track export predict serve transfer",
    "Data": "data",
    "Clusters": "submit jobs cluster",
    "Models and more": "params profile selftest clean schema",
}
"""Modules with commands by the group under which ``--help`` shows them, in this order."""

EXIT_CODES = "Exit codes: 0 done, 1 failed, 2 bad input, 130 Ctrl-C, 129 or 143 killed"

app = typer.Typer(
    name="orchestrator",
    cls=Overview,
    help="Search, train and rank multi-modal alignment prompts of CLIP on related tasks.",
    epilog=f"Start with:  orchestrator sweep demo\n\n{EXIT_CODES}",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for panel, modules in COMMANDS.items():
    for module in modules.split():
        known = {id(one) for one in (*app.registered_commands, *app.registered_groups)}
        importlib.import_module(f"orchestrator.cli.{module}").add_to(app)
        for command in app.registered_commands:
            if id(command) not in known:
                command.rich_help_panel = panel
        for group in app.registered_groups:
            if id(group) not in known:
                group.rich_help_panel = panel


@cache
def root() -> Any:
    """Make the command line: a command of Click that holds all others.

    Shell completion is there and stays out of the help: ``--install-completion``, ``--show-completion``.
    """
    found: Any = typer.main.get_command(app)
    for option in found.params:
        option.hidden = option.name in ("install_completion", "show_completion")
    panels = list(COMMANDS)
    found.commands = dict(
        sorted(found.commands.items(), key=lambda named: panels.index(named[1].rich_help_panel))
    )
    for command in commands(found).values():
        _tidy(command)
    return found


def commands(command: Any, path: str = "orchestrator") -> dict[str, Any]:
    """List a command and all below it, by what is typed to call them."""
    found = {path: command}
    for name, below in getattr(command, "commands", {}).items():
        found |= commands(below, f"{path} {name}")
    return found


VALUES = {"int": "N", "float": "X", "str": "TEXT", "Path": "PATH"}
"""What stands for a value in the help, by type; else the type itself."""


def _nothing(**_: Any) -> None:
    return None


def _tidy(command: Any) -> None:
    """Show what typer would show less plainly.

    Lines of a docstring that end in the middle of a sentence are joined; a flag that is off has no
    ``--no-…`` beside it, no default and no type; nor has ``--help``. Ranges are told by the error of a value
    outside: here they would take half of the width.
    """
    if command.help:
        paragraphs = command.help.replace("\f", "").split("\n\n")
        command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            parameter.display_type_rich = _nothing
        elif getattr(parameter, "is_flag", False):
            parameter.metavar, parameter.show_default = "", False
            if parameter.default is False:
                parameter.secondary_opts = []
        else:
            kind = parameter.bare_type().removeprefix("list[").rstrip("]")
            parameter.metavar = parameter.metavar or VALUES.get(kind, kind.upper())
            parameter._get_number_range_help_str = _nothing
    make = command.get_help_option

    def help_option(context: Any) -> Any:
        option = make(context)
        if option is not None:
            option.metavar, option.help = "", "Show this help."
        return option

    command.get_help_option = help_option
