"""Why work did not come to its end: what counts against a cell, and what only against the place it ran on.

A cell that fails takes its trial with it, and a rerun leaves it alone unless told otherwise. A worker, a node
or a storage that goes away says nothing about the cell: its work is done again elsewhere.
"""

from __future__ import annotations

from typing import Literal

from mmap_model.errors import InputError, NotFiniteError
from mmap_model.out_of_memory import is_out_of_memory

Failure = Literal["raised", "data", "nan", "memory", "timeout"]
"""Kinds of failed cells: an exception; data that cannot be read; numbers that are none; memory that does not
hold even the smallest part of a step, or whose shortage got the worker killed; no progress for too long."""

RAY_OUT_OF_MEMORY = (
    "OutOfMemoryError",
    "running low on memory",
    "exceeds the memory usage threshold",
)
"""What Ray says of a worker that its memory monitor killed; the message is all that reaches a Train run. Of
any worker that ended by SIGKILL it says that the kernel may have done it for memory, which tells nothing."""

TELLING = (*RAY_OUT_OF_MEMORY, "Worker exit detail: ", "The actor died because", "The actor is dead because")

GUESSES = (" There are some potential root causes", " Some common causes include")
"""How Ray's guesses begin, which are the same whatever happened."""

LONGEST = 200
"""Characters of a death in words."""


class CellFailed(Exception):
    """A cell that others depend on failed, or that is to be scored.

    Args:
        error: for people.
        kind: of its failure.
    """

    def __init__(self, error: str, kind: Failure = "raised") -> None:
        super().__init__(error)
        self.kind = kind


def failure_of(error: BaseException) -> Failure:
    """The kind of failure of a cell whose training raised ``error``."""
    if is_out_of_memory(error):
        return "memory"
    if isinstance(error, NotFiniteError):
        return "nan"
    # Training reads images and opens nothing else: what the operating system refuses there is data.
    return "data" if isinstance(error, InputError | OSError) else "raised"


def is_device_failure(error: BaseException) -> bool:
    """Whether a GPU gave an error that its process does not survive: all its later work would fail too.

    A fresh process may go on, on this GPU or another; which of GPU and cell is to blame shows by the deaths.
    """
    told = type(error).__name__ == "AcceleratorError" or "CUDA error:" in str(error)
    return told and not is_out_of_memory(error)


def was_killed_for_memory(death: str) -> bool:
    """Whether the words for a worker's death say that its node had no memory left."""
    return any(sign in death for sign in RAY_OUT_OF_MEMORY)


def death_in_words(death: str) -> str:
    """The line of Ray's account of a death that says what happened, shortened; empty for an empty account."""
    lines = [line.strip() for line in death.splitlines() if line.strip()]
    telling = (line for sign in TELLING for line in lines if sign in line)
    said = next(telling, next(iter(lines), ""))
    said = said.partition("Worker exit detail: ")[2] or said
    for guess in GUESSES:
        said = said.partition(guess)[0]
    said = said.rstrip(" .")
    return said if len(said) <= LONGEST else f"{said[: LONGEST - 1]}…"
