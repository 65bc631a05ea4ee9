"""Parts of another library replaced for a while, where it offers no option and is pinned to a version."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def patched(owner: Any, name: str, ours: Any) -> Iterator[None]:
    """``owner.name`` is ``ours`` within the context, whatever ends it."""
    theirs = getattr(owner, name)
    setattr(owner, name, ours)
    try:
        yield
    finally:
        setattr(owner, name, theirs)
