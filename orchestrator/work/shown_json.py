"""What is shown of a run as plain JSON objects, and back: for files of events and for those who follow a run.

``{"event": "epoch", "trial": 3, "epoch": 2, "mean": 0.512}``: the word of ``EVENTS`` for the class, then its
fields by name. A number that is none (NaN, infinite) becomes null.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from orchestrator.work.doing import Doing
from orchestrator.work.shown import (
    BudgetShown,
    CellFailureShown,
    EpochShown,
    NoteShown,
    PhaseShown,
    Shown,
    SlotShown,
    SlotsShown,
    SweepShown,
    TrialShown,
    WorkShown,
)

EVENTS: dict[str, type[Shown]] = {
    "run": SweepShown,
    "phase": PhaseShown,
    "slots": SlotsShown,
    "slot": SlotShown,
    "work": WorkShown,
    "trial": TrialShown,
    "epoch": EpochShown,
    "cell_failure": CellFailureShown,
    "note": NoteShown,
    "budget": BudgetShown,
}
"""Kinds of events by the word that names them."""

_WORDS = {kind: word for word, kind in EVENTS.items()}
_NESTED: dict[str, type[Any]] = {"best": TrialShown, "doing": Doing}


def to_plain(event: Shown) -> dict[str, Any]:
    """The event as a JSON object."""
    return {"event": _WORDS[type(event)], **_fields(event)}


def from_plain(data: Mapping[str, Any]) -> Shown:
    """The event that ``to_plain`` gave; fields of later versions are left out.

    Raises:
        ValueError: it is no event, or lacks a field.
    """
    kind = EVENTS.get(str(data.get("event")))
    if kind is None:
        raise ValueError(f"{data.get('event')!r:.40} is not an event")
    found: Shown = _build(kind, data)
    return found


def _build(kind: type[Any], data: Mapping[str, Any]) -> Any:
    known = {field.name for field in dataclasses.fields(kind)}
    values = {name: value for name, value in data.items() if name in known}
    for name, inner in _NESTED.items():
        if isinstance(values.get(name), Mapping):
            values[name] = _build(inner, values[name])
    if isinstance(values.get("violated"), list):
        values["violated"] = tuple(values["violated"])
    try:
        return kind(**values)
    except TypeError as error:
        raise ValueError(str(error)) from error


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _fields(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return str(value)
