"""Errors that a user's input causes. Each message says where, what, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class InputError(ValueError):
    """Base of every error caused by input (file, key, value), as opposed to a defect of this software.

    Args:
        problem: what is wrong, naming the value.
        where: file and key, or command-line option, that holds the value.
        fix: what to change.
    """

    def __init__(self, problem: str, *, where: str | None = None, fix: str | None = None) -> None:
        self.problem = problem
        self.where = where
        self.fix = fix
        lines = [f"{where}: {problem}" if where else problem]
        if fix:
            lines.append(f"Fix: {fix}")
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.problem, self.where, self.fix))


def _rebuild(kind: type[InputError], problem: str, where: str | None, fix: str | None) -> InputError:
    return kind(problem, where=where, fix=fix)


class BackboneError(InputError):
    """A backbone that cannot be found, loaded or prompted."""


class BackboneWarning(UserWarning):
    """Something about a backbone's weights that cannot be proven, and what to state to settle it."""


class ShapeError(InputError):
    """A prompt shape that the Kronecker product or the backbone cannot take."""


class DatasetError(InputError):
    """A dataset, split list or draw that does not fit."""


class DatasetWarning(UserWarning):
    """Files among images that are left out, or that are read though their names do not say images."""


class ConfigurationError(InputError):
    """An unknown or ill-typed key of a configuration."""


class CheckpointError(InputError):
    """A prompt checkpoint that is damaged or belongs to something else."""


class NotFiniteError(ArithmeticError):
    """Training or scoring came to numbers that are infinite or none: nothing can be said from them."""


def require(condition: bool, where: str, value: Any, fix: str) -> None:
    """Raise ConfigurationError for the value at key ``where`` unless ``condition`` holds."""
    if not condition:
        raise ConfigurationError(f"{value!r} is not allowed", where=where, fix=fix)


def nearest(name: str, known: Iterable[str]) -> str:
    """``" (did you mean 'x'?)"``, or the list of known names when none is near."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}"
