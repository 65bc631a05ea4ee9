"""What a number came from: versions, commit, threads. Says nothing about the host."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    *("torch", "torchvision", "open_clip_torch", "numpy", "pillow"),
    *("ray", "optuna", "mlflow", "mmap-orchestrator"),
)


def provenance() -> dict[str, Any]:
    """``{python, versions, commit, threads}`` of this process; ``commit`` only in a checkout."""
    return {**_fixed(), "threads": _threads()}


def _threads() -> str:
    """Of torch where it is loaded, else what the environment allows; nothing is imported for it."""
    if (torch := sys.modules.get("torch")) is not None:
        return str(torch.get_num_threads())
    return os.environ.get("OMP_NUM_THREADS") or str(os.cpu_count())


@cache
def _fixed() -> dict[str, Any]:
    return {"python": platform.python_version(), "versions": _versions(), "commit": _commit()}


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _commit() -> str | None:
    """The checked-out commit of this software, with ``+`` if tracked files were changed; None outside git."""
    folder = Path(__file__).parents[2]
    if not (folder / ".git").exists():
        return None
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None
