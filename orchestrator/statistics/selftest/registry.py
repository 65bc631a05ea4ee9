"""Suites by name: the modules of `orchestrator.statistics.selftest.suites`."""

from __future__ import annotations

import importlib
import pkgutil

from mmap_model.errors import ConfigurationError, nearest
from orchestrator.statistics.selftest import suites as package
from orchestrator.statistics.selftest.checks import Suite


def names() -> list[str]:
    """What can be tested, without importing any of it."""
    return sorted(info.name for info in pkgutil.iter_modules(package.__path__))


def get_suite(name: str) -> Suite:
    """The suite of that name.

    Raises:
        ConfigurationError: there is none.
    """
    if name not in names():
        raise ConfigurationError(f"unknown self-test {name!r}", where="NAME", fix=nearest(name, names()))
    found = importlib.import_module(f"{package.__name__}.{name}").SUITE
    assert isinstance(found, Suite), f"{name} has no SUITE"
    return found
