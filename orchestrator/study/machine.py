"""What this machine has, read without torch or Ray, and whether a study's slots fit on it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from orchestrator.study.errors import StudyError
from orchestrator.study.model import Slots


@dataclass(frozen=True)
class Machine:
    """Cores that this process may use, and GPUs that it may see."""

    cores: int
    gpus: int


@dataclass(frozen=True)
class SlotLayout:
    """Slots as they will be: ``count`` workers, each with ``cpus``, ``gpus`` and ``threads``."""

    count: int
    cpus: float
    gpus: float
    threads: int


def this_machine() -> Machine:
    """Cores by affinity and container quota; GPUs by the NVIDIA driver and ``CUDA_VISIBLE_DEVICES``."""
    return Machine(cores=_cores(), gpus=_gpus())


def lay_out(slots: Slots, machine: Machine) -> SlotLayout:
    """Resolve ``auto``: one slot per GPU (or fraction), or as many as the cores carry without GPUs.

    Raises:
        StudyError: more slots than the machine carries.
    """
    gpus = float(min(machine.gpus, 1)) if slots.gpus == "auto" else slots.gpus
    by_cores = int(machine.cores / slots.cpus + 1e-9)
    by_gpus = int(machine.gpus / gpus + 1e-9) if gpus else None
    if by_cores < 1:
        raise StudyError(
            f"a slot asks for {slots.cpus:g} cores, this machine has {machine.cores}",
            where="slots.cpus",
            fix=f"use {machine.cores} or fewer",
        )
    if by_gpus is not None and by_gpus < 1:
        raise StudyError(
            f"a slot asks for {gpus:g} GPUs, this machine has {machine.gpus}",
            where="slots.gpus",
            fix="use auto or 0" if not machine.gpus else f"use {machine.gpus} or fewer",
        )
    most = by_cores if by_gpus is None else min(by_cores, by_gpus)
    if slots.count != "auto" and slots.count > most:
        scarce = (
            f"{machine.gpus} GPUs" if by_gpus is not None and by_gpus < by_cores else f"{machine.cores} cores"
        )
        need = f"{gpus:g} GPUs" if by_gpus is not None and by_gpus < by_cores else f"{slots.cpus:g} cores"
        raise StudyError(
            f"{slots.count} slots of {need} do not fit on this machine with {scarce}",
            where="slots.count",
            fix=f"use {most} or fewer, or auto",
        )
    count = most if slots.count == "auto" else slots.count
    return SlotLayout(count, slots.cpus, gpus, slots.threads or max(1, int(slots.cpus)))


def _cores() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = Path("/sys/fs/cgroup/cpu.max")
    if quota.is_file():
        limit, _, period = quota.read_text().strip().partition(" ")
        if limit.isdigit() and period.isdigit():
            cores = min(cores, max(1, int(limit) // int(period)))
    return cores


def _gpus() -> int:
    present = present_gpus()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return present if visible is None else visible_gpus(visible, present)


def present_gpus(root: Path = Path("/")) -> int:
    """GPUs by the driver's own list, or by their devices where a container shows only these."""
    listed = root / "proc/driver/nvidia/gpus"
    if listed.is_dir():
        return len(list(listed.iterdir()))
    return sum(device.name.removeprefix("nvidia").isdigit() for device in (root / "dev").glob("nvidia*"))


def visible_gpus(names: str, present: int) -> int:
    """How many of ``CUDA_VISIBLE_DEVICES`` there are, as CUDA reads it: up to the first that is none.

    A part of a GPU (``MIG-…``) counts as one: of a card in seven parts as many may be named.
    """
    found = []
    for name in (part.strip() for part in names.split(",")):
        if not (name.startswith(("GPU-", "MIG-")) or (name.isdigit() and int(name) < present)):
            break
        found.append(name)
    return len(set(found)) if present else 0
