"""Formats in which reports are written: those of `orchestrator.tables.formats`, and one's own."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from mmap_model.errors import ConfigurationError, nearest
from mmap_model.references import parse, resolve
from orchestrator.tables import formats as package
from orchestrator.tables.document import Section

Layout = Literal["page", "paper", "records"]
"""How a report is laid out: ``page`` says everything; ``paper`` is the tables that a publication prints;
``records`` is numbers alone, a document per table, for programs."""


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        suffix: of its files, and its name.
        layout: which documents of a report it writes.
        write: a document as text. All escaping happens here.
    """

    suffix: str
    layout: Layout
    write: Callable[[Section], str]


@functools.cache
def formats() -> dict[str, Format]:
    """Every format of the package by its suffix: what its modules call ``FORMAT``."""
    found: dict[str, Format] = {}
    for module in sorted(info.name for info in pkgutil.iter_modules(package.__path__)):
        form = importlib.import_module(f"{package.__name__}.{module}").FORMAT
        assert isinstance(form, Format) and form.suffix not in found, f"{module} has no FORMAT of its own"
        found[form.suffix] = form
    return found


def get_format(name: str, where: str = "--format") -> Format:
    """The format of that suffix, or one's own given as ``file.py:FORMAT``.

    Raises:
        ConfigurationError: there is none.
    """
    if name in formats():
        return formats()[name]
    if (reference := parse(name)) is not None:
        own = resolve(reference, where=where, example="file.py:FORMAT")
        if isinstance(own, Format):
            return own
        raise ConfigurationError(
            f"{name}: it is no format", where=where, fix="write FORMAT = Format(…) there"
        )
    raise ConfigurationError(
        f"unknown format {name!r}", where=where, fix=f"{nearest(name, formats())}; your own is file.py:FORMAT"
    )
