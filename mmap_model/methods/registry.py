"""Methods by name: registered ones, and custom ones as ``file.py:MyMethod``. No torch here."""

from __future__ import annotations

import hashlib
from typing import Any

from mmap_model.errors import ConfigurationError, nearest
from mmap_model.methods.base import Method, method_names, registered
from mmap_model.methods.custom import custom_method
from mmap_model.references import parse, sources


def get_method(name: str, where: str = "method") -> Method:
    """The method of that name.

    Args:
        name: a registered name; ``file.py:MyMethod`` or ``my_module:MyMethod`` for a custom one.
        where: the key or option that gave it, for messages.

    Raises:
        ConfigurationError: there is none, with the nearest known name; or it is no method.
    """
    if (method := registered(name)) is not None:
        return method
    if (reference := parse(str(name))) is not None:
        return custom_method(name, reference, where)
    custom = "a custom one is given as my_module:MyMethod or file.py:MyMethod"
    raise ConfigurationError(
        f"unknown method {name!r}", where=where, fix=f"{nearest(str(name), method_names())}; {custom}"
    )


def method_identity(name: str) -> str:
    """What stands for the method in the keys of cells: its name, with the version if it is a custom one."""
    if registered(name) is not None:
        return name
    method = get_method(name)
    return f"{method.name}@{method.version}"


def custom_provenance(name: str) -> dict[str, Any]:
    """What is recorded with results of a custom method: name, version, hash of its file; or nothing."""
    method, texts = get_method(name), sources(name)
    if method.name == name:
        return {}
    hashes = {where: hashlib.sha256(text.encode()).hexdigest() for where, text in texts.items()}
    return {"own_method": {"name": method.name, "version": method.version, "sha256": hashes}}
