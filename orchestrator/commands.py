"""Command lines that people are told to run: they run as they are printed, quoted for a shell."""

from __future__ import annotations

import shlex
from pathlib import Path

from mmap_model.paths import expanded
from orchestrator.redaction import HIDDEN, redact

STORAGE = "runs"
"""Where commands look for records if they are not told."""


def command(verb: str, study: str, *options: str, storage: str | None = None) -> str:
    """``orchestrator confirm NAME --storage ROOT --seeds 4``.

    Args:
        verb: of a command that takes a study by its name and ``--storage``.
        study: its name.
        options: what follows.
        storage: root of its records; left out where commands find it by themselves from this folder.
    """
    place = [] if storage is None or is_default(storage) else ["--storage", redact(storage, ())]
    return shlex.join(["orchestrator", *verb.split(), study, *place, *options])


def is_default(storage: str) -> bool:
    """Whether commands that run in this folder look there unless told otherwise."""
    return "://" not in storage and expanded(storage).absolute() == Path(STORAGE).absolute()


def changed(recorded: str, override: str) -> str | None:
    """A recorded ``orchestrator sweep …`` with another override, without options that are of one run.

    None where it is no sweep, or cannot be run as it was: its file is not here, secrets are not recorded.
    """
    try:
        words = shlex.split(recorded)
    except ValueError:
        return None
    if words[:2] != ["orchestrator", "sweep"] or HIDDEN in recorded:
        return None
    key = override.partition("=")[0]
    kept = [word for word in words[2:] if not word.startswith((f"{key}=", "-"))]
    if not kept or (kept[0].endswith((".yaml", ".yml")) and not expanded(kept[0]).is_file()):
        return None
    return shlex.join(["orchestrator", "sweep", *kept, override])
