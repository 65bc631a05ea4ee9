"""Paths as people write them."""

from __future__ import annotations

import os
from pathlib import Path


def expanded(text: str | os.PathLike[str]) -> Path:
    """The path with a leading ``~`` or ``~user`` as that home; as it is where there is no such user.

    ``Path.expanduser`` raises there, and takes ``./~`` for ``~``.
    """
    return Path(os.path.expanduser(text))  # noqa: PTH111
