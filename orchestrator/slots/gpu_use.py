"""How busy a worker's GPU is, as ``nvidia-smi`` says; nothing where there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

ASK_S = 5.0
"""Seconds that the tool gets to answer."""

QUERY = ("--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits")

MIB = 2**20


@dataclass(frozen=True)
class Used:
    """Of a GPU, by all its processes.

    Attributes:
        busy: share of the last second or less in which it computed, 0 … 1.
        bytes: of its memory in use.
    """

    busy: float
    bytes: int


class GpuUse:
    """Reads what is used of the GPU that this process sees first.

    The tool is asked once, and never again where it does not answer: on a CPU, or for a part of a card (MIG),
    of which it knows no use.

    Args:
        ask: runs a command, and gives its output; replaced in tests.
        environment: names the GPU by ``CUDA_VISIBLE_DEVICES``; without it there is none.
    """

    def __init__(
        self,
        ask: Callable[[Sequence[str]], str] | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._ask = ask or _run
        self._environment = environment
        self._known = True

    def read(self) -> Used | None:
        """What is used now; None where that cannot be known."""
        device = self._environment.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0].strip()
        if not self._known or not device or device == "-1":
            return None
        try:
            busy, used = self._ask(("nvidia-smi", "-i", device, *QUERY)).strip().split(",")
            return Used(float(busy) / 100, int(used) * MIB)
        except (OSError, ValueError, subprocess.SubprocessError):
            self._known = False
            return None


def _run(command: Sequence[str]) -> str:
    if shutil.which(command[0]) is None:
        raise FileNotFoundError(command[0])
    done = subprocess.run(command, capture_output=True, text=True, timeout=ASK_S, check=True)
    return done.stdout
