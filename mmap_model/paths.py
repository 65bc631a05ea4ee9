"""Paths as people write them: ``~``, names that are too long."""

from __future__ import annotations

import os
from pathlib import Path


def is_file(path: str | os.PathLike[str]) -> bool:
    """Whether a file is there. Unlike ``Path.is_file`` no name is so long that it raises."""
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: str | os.PathLike[str]) -> bool:
    """The same of a folder."""
    return os.path.isdir(path)  # noqa: PTH112


def expanded(text: str | os.PathLike[str]) -> Path:
    """The path with a leading ``~`` or ``~user`` as that home; as it is where there is no such user.

    ``Path.expanduser`` raises there, and takes ``./~`` for ``~``.
    """
    return Path(os.path.expanduser(text))  # noqa: PTH111
