"""Options that take several values: ``--seeds 1,2,3``, ``--seeds 1 2 3`` and ``--seeds 1-3`` say the same."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import typer
from typer.core import TyperCommand

NUMBERS = frozenset({"--seeds", "--shots", "--trial"})
"""Lists of numbers: one ends at the first word that is none."""
NAMES = frozenset({"--methods", "--recipes"})
"""Lists of names: one ends at the next option or ``KEY=VALUE``."""


class ListOptions(TyperCommand):
    """A command whose lists may be written in a row."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        lists = {name for option in self.params if getattr(option, "multiple", False) for name in option.opts}
        return super().parse_args(ctx, spread(args, lists))


def number_list(help: str, **more: Any) -> Any:
    """Declare an option that takes numbers in a row."""
    return typer.Option(metavar="N,N…", help=help, **more)


def spread(arguments: Sequence[str], lists: Collection[str] = NUMBERS | NAMES) -> list[str]:
    """Repeat an option that takes a list before each of its values; ranges are written out.

    Raises:
        StudyError: the first value of a list of numbers is none.
    """
    found: list[str] = []
    option = ""
    waits = False  # for the option's first value, which is one whatever it looks like
    for position, argument in enumerate(arguments):
        if argument == "--":
            return [*found, *arguments[position:]]
        name, equals, value = argument.partition("=")
        if name in lists and name in NUMBERS | NAMES:
            option, waits = name, not equals
            found += [part for each in _values(name, value) for part in (name, each)] if equals else []
        elif option and (waits or _goes_on(option, argument)):
            found += [part for each in _values(option, argument) for part in (option, each)]
            waits = False
        else:
            option = ""
            found.append(argument)
    return [*found, option] if waits else found


def _goes_on(option: str, word: str) -> bool:
    if option in NUMBERS:
        from orchestrator.study.numbers import are_numbers

        return are_numbers(word)
    return not word.startswith("-") and "=" not in word


def _values(option: str, text: str) -> list[str]:
    if option in NUMBERS:
        from orchestrator.study.numbers import read_numbers

        return [str(number) for number in read_numbers(text, option)]
    return [value for value in text.split(",") if value]
