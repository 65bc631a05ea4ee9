"""Frozen dataclasses to plain dictionaries and back, strictly, and the content address of what is plain."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from mmap_model.errors import ConfigurationError, nearest
from mmap_model.revisions import is_left_out

T = TypeVar("T")


def content_key(value: Any) -> str:
    """The first 32 hexadecimal digits of the SHA-256 of the canonical JSON of ``value``."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def to_plain(value: Any) -> Any:
    """Dataclasses to dictionaries and tuples to lists, recursively: JSON-ready.

    Added fields at their defaults are left out, so that what is hashed or compared stays as it was.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            f.name: to_plain(inner)
            for f in dataclasses.fields(value)
            if not is_left_out(f, inner := getattr(value, f.name))
        }
    if isinstance(value, list | tuple):
        return [to_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: to_plain(v) for k, v in value.items()}
    return value


def from_plain(cls: type[T], data: dict[str, Any], where: str, **given: Any) -> T:
    """Build dataclass ``cls`` from a dictionary; unknown keys and wrong types raise ConfigurationError.

    ``given`` are fields already built. ``where`` prefixes keys in messages, e.g. ``study.yaml: recipe``.
    """
    if not isinstance(data, dict):
        raise ConfigurationError(
            f"expected a mapping, got {data!r}", where=where, fix="write key: value pairs"
        )
    hints = _type_hints(cls)  # type: ignore[arg-type]
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    values = dict(given)
    for key, value in data.items():
        if key not in fields:
            raise ConfigurationError(f"unknown key {key!r}", where=f"{where}.{key}", fix=nearest(key, fields))
        values[key] = _convert(hints[key], value, f"{where}.{key}")
    missing = [
        n
        for n, f in fields.items()
        if n not in values and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigurationError(f"missing key {missing[0]!r}", where=where, fix=f"add {missing[0]}: …")
    try:
        return cls(**values)
    except ConfigurationError as error:
        # A dataclass names its keys from where it usually lives; a recipe may also be that of a probe.
        _, dot, key = (error.where or "").rpartition(".")
        raise ConfigurationError(
            error.problem, where=f"{where}{dot}{key * bool(dot)}", fix=error.fix
        ) from None


@functools.cache
def _type_hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if hint is Any:
        return value
    if origin is Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            known = ", ".join(map(str, choices))
            raise ConfigurationError(
                f"{value!r} is not one of {known}", where=where, fix=nearest(str(value), map(str, choices))
            )
        return value
    if origin in (types.UnionType, typing.Union):
        options = typing.get_args(hint)
        if value is None and type(None) in options:
            return None
        return _convert(next(o for o in options if o is not type(None)), value, where)
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else from_plain(hint, value, where)  # type: ignore[arg-type]
    if origin in (dict, Mapping):
        if not isinstance(value, dict):
            raise ConfigurationError(
                f"expected a mapping, got {value!r}", where=where, fix="write key: value pairs"
            )
        key_hint, value_hint = typing.get_args(hint)
        return {
            _convert(key_hint, k, where): _convert(value_hint, v, f"{where}.{k}") for k, v in value.items()
        }
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigurationError(f"expected a list, got {value!r}", where=where, fix="write [a, b]")
        return tuple(_convert(typing.get_args(hint)[0], v, where) for v in value)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return _finite(value, where)
    if isinstance(hint, type) and (not isinstance(value, hint) or (hint is int and isinstance(value, bool))):
        raise ConfigurationError(
            f"expected {hint.__name__}, got {value!r}",
            where=where,
            fix=f"write a value of type {hint.__name__}",
        )
    return value


def _finite(value: float, where: str) -> float:
    try:
        number = float(value)
    except OverflowError:  # an integer beyond all floats
        number = math.inf
    if not math.isfinite(number):
        raise ConfigurationError(f"{number} is not a finite number", where=where, fix="use a finite number")
    return number
