"""Methods by name: registered ones, and a researcher's own as ``file.py:MyMethod``. No torch here."""

from __future__ import annotations

import hashlib
from typing import Any

from mmap_model.errors import ConfigurationError, nearest
from mmap_model.methods.base import Method, method_names, registered
from mmap_model.methods.own import own_method
from mmap_model.references import parse, sources


def get_method(name: str, where: str = "method") -> Method:
    """The method of that name.

    Args:
        name: a registered name; ``file.py:MyMethod`` or ``my_module:MyMethod`` for one of one's own.
        where: the key or option that gave it, for messages.

    Raises:
        ConfigurationError: there is none, with the nearest known name; or it is no method.
    """
    if (method := registered(name)) is not None:
        return method
    if (reference := parse(str(name))) is not None:
        return own_method(name, reference, where)
    own = "your own is given as my_module:MyMethod or file.py:MyMethod"
    raise ConfigurationError(
        f"unknown method {name!r}", where=where, fix=f"{nearest(str(name), method_names())}; {own}"
    )


def method_identity(name: str) -> str:
    """What stands for the method in the keys of cells: its name, with the version if it is one's own."""
    if registered(name) is not None:
        return name
    method = get_method(name)
    return f"{method.name}@{method.version}"


def own_provenance(name: str) -> dict[str, Any]:
    """What is recorded with results of a method of one's own: name, version, hash of its file; or nothing."""
    method, texts = get_method(name), sources(name)
    if method.name == name:
        return {}
    hashes = {where: hashlib.sha256(text.encode()).hexdigest() for where, text in texts.items()}
    return {"own_method": {"name": method.name, "version": method.version, "sha256": hashes}}
