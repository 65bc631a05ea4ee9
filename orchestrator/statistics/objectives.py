"""What a search may aim at, what it may demand, and how both are measured on a trial. Validation only.

A name alone goes in its natural direction: ``accuracy`` and ``worst_task`` up, everything else down. A sign
decides otherwise: ``-parameters`` says that fewer are better, as ``parameters`` does by itself.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmap_model.errors import InputError, nearest
from orchestrator.statistics.summary import objective as mean_over_cells

UP: Mapping[str, bool] = {
    "accuracy": True,
    "parameters": False,
    "worst_task": True,
    "ece": False,
    "nll": False,
    "device_seconds": False,
}
"""Whether more is better, by name.

``accuracy``, ``nll`` and ``ece`` are means over tasks; ``worst_task`` is the accuracy of the lowest task of
each cell. They are averaged over seeds, then over splits. ``parameters`` are the trained ones of one
replicate, the most where cells differ: an exact count. ``device_seconds`` are those that the cells took to
train, as recorded with them, of one cell on average: a cell that another study has trained counts in full.
"""

EXACT = frozenset({"parameters"})
"""Known without noise."""

CellRecord = Mapping[str, Any]
Records = Mapping[str, Mapping[str, Any]]
By = Mapping[tuple[Any, Any], float]
"""Values by split and seed."""

_CONSTRAINT = re.compile(r"\s*([a-z_]+)\s*(<=|>=)\s*([-+0-9.eE]+)\s*")


@dataclass(frozen=True)
class Objective:
    """One thing that a search aims at.

    Attributes:
        name: one of `UP`.
        maximize: more is better.
    """

    name: str
    maximize: bool

    @property
    def label(self) -> str:
        """``accuracy``, or ``-parameters`` where less is better."""
        return self.name if self.maximize else f"-{self.name}"


@dataclass(frozen=True)
class Constraint:
    """What a configuration must fulfil to count.

    Attributes:
        name: one of `UP`.
        at_most: the bound is an upper one.
        bound: in the unit of the name; accuracies are fractions of 1.
    """

    name: str
    at_most: bool
    bound: float

    @property
    def label(self) -> str:
        bound = int(self.bound) if self.bound.is_integer() else self.bound
        return f"{self.name}{'<=' if self.at_most else '>='}{bound}"

    def violation(self, value: float) -> float:
        """By how much a value lies on the wrong side; 0 or less where it does not."""
        return value - self.bound if self.at_most else self.bound - value


def parse_objectives(texts: Sequence[str], where: str) -> tuple[Objective, ...]:
    """The objectives of a list such as ``[accuracy, -parameters]``.

    Raises:
        InputError: an unknown name, one given twice, or none.
    """
    found = []
    for text in texts:
        name = text.strip().lstrip("+-").strip()
        if name not in UP:
            raise InputError(f"{text!r} is not an objective", where=where, fix=nearest(name, [*UP]))
        sign = text.strip()[0]
        found.append(Objective(name, UP[name] if sign not in "+-" else sign == "+"))
    names = [each.name for each in found]
    if not names or len(set(names)) < len(names):
        problem = f"{list(texts)} names an objective twice" if names else "there is no objective"
        raise InputError(problem, where=where, fix="name each once, such as [accuracy, -parameters]")
    return tuple(found)


def parse_constraint(text: str, where: str) -> Constraint:
    """The constraint of a text such as ``parameters<=20000``. Raises InputError for anything else."""
    match = _CONSTRAINT.fullmatch(text)
    fix = f"write NAME<=NUMBER or NAME>=NUMBER with one of {', '.join(UP)}"
    if match is None:
        raise InputError(f"{text!r} is not a constraint", where=where, fix=fix)
    name, sign, number = match.groups()
    if name not in UP:
        raise InputError(
            f"{text!r} constrains nothing that is measured", where=where, fix=nearest(name, [*UP])
        )
    try:
        bound = float(number)
    except ValueError:
        bound = math.nan
    if not math.isfinite(bound):
        raise InputError(f"{number!r} in {text!r} is not a number", where=where, fix=fix)
    return Constraint(name, sign == "<=", bound)


@dataclass(frozen=True)
class Aim:
    """What a study searches for.

    Attributes:
        objectives: in order; the first of them first.
        constraints: all of which a winner fulfils.
    """

    objectives: tuple[Objective, ...] = (Objective("accuracy", True),)
    constraints: tuple[Constraint, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Accuracy alone, unconstrained: known from the epochs of a trial."""
        return not self.several and not self.constraints

    @property
    def several(self) -> bool:
        return len(self.objectives) > 1

    @property
    def names(self) -> tuple[str, ...]:
        """Everything that is to be measured, once."""
        aimed, demanded = (each.name for each in self.objectives), (each.name for each in self.constraints)
        return tuple(dict.fromkeys((*aimed, *demanded)))

    @property
    def directions(self) -> list[str]:
        """As Optuna has them."""
        return ["maximize" if each.maximize else "minimize" for each in self.objectives]

    @classmethod
    def of(cls, objectives: Sequence[str], constraints: Iterable[str] = ()) -> Aim:
        """Of the keys ``search.objectives`` and ``search.constraints``. Raises InputError."""
        return cls(
            parse_objectives(objectives, "search.objectives"),
            tuple(parse_constraint(text, f"search.constraints.{i}") for i, text in enumerate(constraints)),
        )

    @classmethod
    def of_study(cls, study: Mapping[str, Any]) -> Aim:
        """Of a stored study, ``Study.to_plain()``; records of earlier versions aim at accuracy."""
        search = study.get("search") or {}
        return cls.of(search.get("objectives", ("accuracy",)), search.get("constraints", ()))


def by_cell(name: str, cells: Iterable[CellRecord], records: Records) -> dict[tuple[Any, Any], float] | None:
    """A measured quantity by split and seed; None unless every cell has it.

    Args:
        name: one of `UP`, but none of `EXACT`.
        cells: of a trial, with ``key``, ``split`` and ``seed``.
        records: of finished cells by key.
    """
    found = {}
    for cell in cells:
        value = _of_cell(name, records.get(cell["key"]) or {})
        if value is None or not math.isfinite(value):
            return None
        found[cell["split"], cell["seed"]] = value
    return found or None


def measure(
    names: Iterable[str], cells: Sequence[CellRecord], records: Records, parameters: int | None
) -> dict[str, float | None]:
    """What a trial came to, by name; None where a cell lacks it.

    Args:
        names: of `UP`.
        cells, records: as of `by_cell`.
        parameters: trained ones of one replicate.
    """
    found: dict[str, float | None] = {}
    for name in names:
        if name in EXACT:
            found[name] = None if parameters is None else float(parameters)
        else:
            values = by_cell(name, cells, records)
            found[name] = None if values is None else mean_over_cells(values)
    return found


def _of_cell(name: str, record: Mapping[str, Any]) -> float | None:
    metrics = record.get("metrics") or {}
    if name == "device_seconds":
        seconds = record.get("seconds")
        return math.fsum(seconds.values()) if seconds else None
    if name == "worst_task":
        tasks = (metrics.get("tasks") or {}).values()
        values = [each.get("accuracy") for each in tasks]
        return min(values) if values and None not in values else None
    value = metrics.get(name)
    return None if value is None else float(value)
