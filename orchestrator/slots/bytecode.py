"""The first run after an installation compiles its modules once, while Ray starts.

Installers leave bytecode to the first import. All slots of a machine import the same modules at the same
time, and each of them would compile every one: torch, open_clip and Ray Train are some 4,000.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

IN_ORDER = (
    "orchestrator.slots.resident_run",
    "orchestrator.execution.executor",
    "mmap_model.training",
    "open_clip",
)
"""What a worker imports, in its order."""

NICENESS = 5
"""Of that process: the start of Ray itself goes first."""


def compile_ahead() -> subprocess.Popen[bytes] | None:
    """A process that imports what workers will, if none has on this machine; None if there is no need.

    Nobody waits for it: a module that it has not come to is compiled by whoever imports it.
    """
    if sys.dont_write_bytecode or _is_compiled(IN_ORDER[-1]):
        return None
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", f"import {', '.join(IN_ORDER)}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        return None  # workers do without
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, process.pid, NICENESS)
    return process


def _is_compiled(package: str) -> bool:
    """Whether the bytecode of an installed package lies where it belongs; True if there is no such place."""
    spec = importlib.util.find_spec(package)
    return spec is None or spec.cached is None or Path(spec.cached).exists()
