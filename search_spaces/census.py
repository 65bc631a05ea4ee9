"""What a space asks a trial for: which parameters are categorical, and which only some points have."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search_spaces.suggesters import Suggester, resolved_name


@dataclass(frozen=True)
class Asked:
    """Parameters of more than one value that samplers do not all cope with, by resolved names in order.

    Attributes:
        categorical: chosen from a list.
        conditional: only some points have them, or their values depend on another parameter.
    """

    categorical: tuple[str, ...] = ()
    conditional: tuple[str, ...] = ()


class Census:
    """Passes suggestions through and notes what was asked for.

    Attributes:
        found: what a parameter may be, by its full name.
    """

    def __init__(self, source: Suggester) -> None:
        self._source = source
        self.found: dict[str, Hashable] = {}

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        self.found[name] = ("categorical", tuple(choices))
        return self._source.suggest_categorical(name, choices)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        self.found[name] = ("int", low, high, step, log)
        return self._source.suggest_int(name, low, high, step=step, log=log)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        self.found[name] = ("float", low, high, step, log)
        return self._source.suggest_float(name, low, high, step=step, log=log)


def take_census(points: Iterable[Mapping[str, Any]]) -> Asked:
    """Sum up what was asked for.

    Args:
        points: for every point of a space, what its parameters may be by full name.
    """
    count = 0
    kinds: dict[str, list[Any]] = {}
    for found in points:
        count += 1
        for name, kind in found.items():
            kinds.setdefault(name, []).append(kind)
    several = {name: seen for name, seen in kinds.items() if not all(map(_is_single, seen))}
    categorical = [name for name, seen in several.items() if any(kind[0] == "categorical" for kind in seen)]
    conditional = [
        name for name, seen in several.items() if len(seen) < count or len(set(map(repr, seen))) > 1
    ]
    return Asked(_resolved(categorical), _resolved(conditional))


def _is_single(kind: Any) -> bool:
    """One value leaves a sampler nothing to do."""
    return len(kind[1]) == 1 if kind[0] == "categorical" else kind[1] == kind[2]


def _resolved(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(resolved_name, names)))
