"""Methods that are not registered but named as ``file.py:MyMethod`` or ``my_module:MyMethod``."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable
from typing import Any, get_args

from mmap_model import references
from mmap_model.errors import ConfigurationError
from mmap_model.methods.base import Method, NewClasses, method_names

_EXAMPLE = "file.py:MyMethod"
_METHODS: dict[type, Method] = {}
_OWNERS: dict[str, tuple[references.Reference, str | None]] = {}
"""By name of the method: what it was called by, and the text of its file."""


def custom_method(name: str, reference: references.Reference, where: str) -> Method:
    """The method that ``reference``, written ``name``, stands for.

    Raises:
        ConfigurationError: it cannot be found, is not a method, or has the name of another one.
    """
    kind = references.resolve(reference, where=where, example=_EXAMPLE)
    if kind not in _METHODS:
        _check(kind, name, where)
        owner = reference, references.source_text(reference)
        if _is_another(_OWNERS.get(kind.name, owner), owner):
            raise ConfigurationError(
                f"{name}: another class here is called {kind.name!r}",
                where=where,
                fix="give each its own name",
            )
        _METHODS[kind], _OWNERS[kind.name] = kind(), owner
    return _METHODS[kind]


def _check(kind: Any, name: str, where: str) -> None:
    def refuse(problem: str, fix: str) -> ConfigurationError:
        return ConfigurationError(f"{name}: {problem}", where=where, fix=fix)

    if not (isinstance(kind, type) and issubclass(kind, Method)):
        raise refuse("there is no method of that name", "make it a class that derives from Method")
    if inspect.isabstract(kind):
        missing = ", ".join(sorted(kind.__abstractmethods__))
        raise refuse(f"{missing} not written", "write check, count and build")
    if not _takes(kind.build, "self", "settings", "backbone", "problem"):
        raise refuse(
            "build does not take what models are built for as one value",
            "write def build(self, settings, backbone, problem), where problem.classes, .template, "
            ".partitions and .train_seeds are what it was given one by one",
        )
    label = getattr(kind, "name", None)
    if not isinstance(label, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", label):
        raise refuse(f"name is {label!r}", 'give the class a name = "…" of lower-case letters, digits and _')
    if label in method_names():
        raise refuse(f"{label!r} is a method of this package", "give the class another name")
    if not isinstance(kind.version, int) or kind.version < 1:
        raise refuse(f"version is {kind.version!r}", "use a whole number, 1 or more")
    if kind.new_classes not in get_args(NewClasses):
        raise refuse(f"new_classes is {kind.new_classes!r}", f"use one of {', '.join(get_args(NewClasses))}")
    settings = getattr(kind, "Settings", None)
    if not (isinstance(settings, type) and dataclasses.is_dataclass(settings)):
        raise refuse("Settings is not a dataclass", "write Settings = MySettings, a frozen dataclass")
    parameters = settings.__dataclass_params__  # type: ignore[attr-defined]
    fields = dataclasses.fields(settings)
    missing_default = [
        f.name
        for f in fields
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if not parameters.frozen or missing_default or not all(f.kw_only for f in fields):
        raise refuse(
            "Settings are not frozen, keyword-only and with a default for every field",
            "write @dataclass(frozen=True, kw_only=True) and give every field a default",
        )


def _takes(function: Callable[..., Any], *given: object) -> bool:
    try:
        inspect.signature(function).bind(*given)
    except TypeError:
        return False
    return True


def _is_another(
    known: tuple[references.Reference, str | None], new: tuple[references.Reference, str | None]
) -> bool:
    """Whether two methods of one name differ: neither one file changed meanwhile, nor one copied."""
    (old_reference, old_text), (reference, text) = known, new
    if old_reference.attribute != reference.attribute:
        return True
    same_place = old_reference.path == reference.path or old_reference.location == reference.location
    return not same_place and (text is None or text != old_text)
