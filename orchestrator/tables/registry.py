"""Formats in which reports are written: those of `orchestrator.tables.formats`, and one's own."""

from __future__ import annotations

import functools
import importlib
import pkgutil

from mmap_model.errors import ConfigurationError, nearest
from mmap_model.references import parse, resolve
from orchestrator.tables import formats as package
from orchestrator.tables.format import Format


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
    if (known := formats().get(name)) is not None:
        return known
    reference = parse(name)
    own = None if reference is None else resolve(reference, where=where, example="file.py:FORMAT")
    if isinstance(own, Format):
        return own
    fix = f"{nearest(name, formats())}; a custom one is file.py:FORMAT, made by FORMAT = Format(…)"
    raise ConfigurationError(f"unknown format {name!r}", where=where, fix=fix)
