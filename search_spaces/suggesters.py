"""Sources of values for a define-by-run space: Optuna's trials, and our own that need no Optuna.

An Optuna name may carry the condition its choices depend on, after an ``@`` (``source_rows@b=14``), because
Optuna refuses a categorical whose choices change. What precedes the ``@`` is the *resolved name*, for people.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from mmap_model.errors import nearest
from search_spaces.errors import SpaceError

T = TypeVar("T")


class Suggester(Protocol):
    """The part of ``optuna.trial.BaseTrial`` that spaces use."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int: ...

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float: ...


def resolved_name(name: str) -> str:
    """``source_rows`` of ``source_rows@b=14``."""
    return name.partition("@")[0]


def conditional_name(name: str, **conditions: Any) -> str:
    """``source_rows@b=14`` of ``source_rows`` and ``b=14``; the plain name without conditions."""
    return name + ("@" + ",".join(f"{k}={v}" for k, v in conditions.items()) if conditions else "")


class Recorder:
    """Passes suggestions through and keeps them; a resolved name suggested twice is a SpaceError."""

    def __init__(self, source: Suggester) -> None:
        self._source = source
        self.params: dict[str, Any] = {}
        self.values: dict[str, Any] = {}

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._keep(name, self._source.suggest_categorical(name, choices))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return int(self._keep(name, self._source.suggest_int(name, low, high, step=step, log=log)))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return float(self._keep(name, self._source.suggest_float(name, low, high, step=step, log=log)))

    def _keep(self, name: str, value: Any) -> Any:
        plain = resolved_name(name)
        if plain in self.values:
            raise SpaceError(
                f"parameter {plain!r} is suggested twice", where="space", fix="remove one of the two spaces"
            )
        self.params[name] = value
        self.values[plain] = value
        return value


class Replay:
    """Gives back recorded values by their full Optuna names."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self._params = params

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        value = self._get(name)
        if value not in choices:
            raise SpaceError(f"{name}={value!r} is not one of {_listed(choices)}", where=name)
        return value

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return int(self._get(name))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return float(self._get(name))

    def _get(self, name: str) -> Any:
        if name not in self._params:
            raise SpaceError(
                f"the recorded point has no parameter {name!r}",
                where="space",
                fix="the search space differs from the one the point was drawn from",
            )
        return self._params[name]


class Given:
    """Takes values by resolved name: ``given`` ones exactly, ``preferred`` ones as near as the space allows.

    A parameter in neither takes its first choice, or its lower end.
    """

    def __init__(self, given: Mapping[str, Any], preferred: Mapping[str, Any], where: str) -> None:
        self._given, self._preferred, self._where = given, preferred, where
        self.asked: set[str] = set()

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        plain = resolved_name(name)
        if self._is_given(plain):
            wanted = self._given[plain]
            for choice in choices:
                if _same(choice, wanted):
                    return choice
            condition = name.partition("@")[2]
            raise SpaceError(
                f"{plain}={wanted!r} is not in the search space" + (f" at {condition}" if condition else ""),
                where=f"{self._where}.{plain}",
                fix=f"use one of {_listed(choices)}",
            )
        return nearest_choice(self._preferred.get(plain, choices[0]), choices)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        value = self._within(name, low, high)
        return low + round((value - low) / step) * step

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        value = self._within(name, low, high)
        return float(value if step is None else low + round((value - low) / step) * step)

    def unused(self) -> list[str]:
        """Given names the space never asked for."""
        return sorted(set(self._given) - self.asked)

    def _is_given(self, plain: str) -> bool:
        self.asked.add(plain)
        return plain in self._given

    def _within(self, name: str, low: float, high: float) -> float:
        plain = resolved_name(name)
        if not self._is_given(plain):
            value = self._preferred.get(plain, low)
            return min(max(float(value), low), high) if _is_number(value) else low
        value = self._given[plain]
        if not _is_number(value) or not low <= value <= high:
            raise SpaceError(
                f"{plain}={value!r} is not in the search space",
                where=f"{self._where}.{plain}",
                fix=f"use a number from {low:g} to {high:g}",
            )
        return float(value)


class _Walk:
    """Follows ``prefix`` (indices into successive choices), then takes the first of every further choice."""

    def __init__(self, prefix: Sequence[int]) -> None:
        self._prefix = prefix
        self.path: list[tuple[int, int]] = []
        self.continuous: list[str] = []

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return choices[self._step(len(choices))]

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return low + step * self._step((high - low) // step + 1)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        if step is not None:
            return low + step * self._step(int((high - low) / step + 1e-9) + 1)
        self.continuous.append(resolved_name(name))
        return math.sqrt(low * high) if log else (low + high) / 2

    def _step(self, size: int) -> int:
        position = len(self.path)
        index = self._prefix[position] if position < len(self._prefix) else 0
        self.path.append((index, size))
        return index


def walk(run: Callable[[Suggester], T]) -> Iterator[tuple[T, tuple[str, ...]]]:
    """Every outcome of ``run`` over all its choices, in order, with the names that are continuous.

    A continuous parameter is not enumerated: it takes the middle of its range.
    """
    prefix: list[int] = []
    while True:
        suggester = _Walk(prefix)
        yield run(suggester), tuple(suggester.continuous)
        path = suggester.path
        while path and path[-1][0] + 1 == path[-1][1]:
            path.pop()
        if not path:
            return
        prefix = [index for index, _ in path[:-1]] + [path[-1][0] + 1]


def nearest_choice(wanted: Any, choices: Sequence[Any]) -> Any:
    """``wanted`` if it is a choice, else the nearest number (the smaller of two), else the first choice."""
    for choice in choices:
        if _same(choice, wanted):
            return choice
    numbers = [c for c in choices if _is_number(c)]
    if _is_number(wanted) and numbers:
        return min(numbers, key=lambda c: (abs(c - wanted), c))
    return choices[0]


def unknown_names(names: Sequence[str], known: Sequence[str], where: str) -> SpaceError:
    """The error for parameters that the space does not have."""
    return SpaceError(
        f"the search space has no parameter {names[0]!r}",
        where=f"{where}.{names[0]}",
        fix=nearest(names[0], known),
    )


def _same(a: Any, b: Any) -> bool:
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _listed(choices: Sequence[Any]) -> str:
    return ", ".join("null" if c is None else str(c) for c in choices)
