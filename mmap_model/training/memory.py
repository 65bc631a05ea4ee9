"""How many images of a step fit at a time, planned before memory runs out.

Legend: R replicates, T tasks, B images per replicate, task and step.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from mmap_model.execution import Execution
from mmap_model.methods.model import TunedModel

RESERVE = 0.25
"""Of what is free, for what the backward pass holds beside the kept activations, and for fragments."""

GIGABYTE = 10**9

PLENTY = 1000
"""Times the size of the pixels is more than any model keeps of them (ViT-B/16: 150)."""

CONTEXT = 512 * 2**20
"""Bytes of a GPU that CUDA takes for each process and torch does not count, about."""

BESIDE_STEPS = 2 * GIGABYTE
"""Allowed for what a process on the CPU holds besides its steps."""


def images_at_a_time(model: TunedModel, pixels: Tensor) -> int:
    """Of each (replicate, task), at most B, of normalised pixels [R, T, B, 3, H, W]; 0 if not even one fits.

    Measures what autograd keeps of the class prompts and of one image per set; more keep in proportion.
    Returns B at once where that cannot matter.
    """
    most = pixels.shape[2]
    free = _free(model.execution, pixels.device) * (1 - RESERVE)
    if pixels.nbytes * PLENTY < free:
        return most
    texts = kept_bytes(model.class_features)
    images = kept_bytes(lambda: model.image_features(pixels[:, :, :1]))
    return max(0, min(most, int((free - texts) // max(images, 1))))


def kept_bytes(forward: Callable[[], Tensor]) -> int:
    """Bytes that autograd keeps of ``forward()`` for its backward pass; parameters are not counted."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if not isinstance(tensor if tensor._base is None else tensor._base, torch.nn.Parameter):
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = forward()
    total = sum(kept.values())
    del result
    return total


def release(device: torch.device) -> None:
    """Give back what a failed attempt held."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def keep_to_share(device: torch.device | str, share: float) -> None:
    """Let this process take no more than a share of a GPU that others work on too: 0.5 is half of it.

    Beyond it torch says that memory ran out, and a step or an evaluation goes on in smaller parts, where two
    processes that both plan with all that is free would take it from each other.
    """
    device = _numbered(torch.device(device))
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(max(share - CONTEXT / total, share / 2), device)


def _numbered(device: torch.device) -> torch.device:
    """A GPU with its number: ``cuda`` alone is no answer to whose share is meant."""
    return device if device.index is not None else torch.device(device.type, torch.cuda.current_device())


def _free(execution: Execution, device: torch.device) -> float:
    """Bytes that a step may still take."""
    if device.type == "cuda":
        held = torch.cuda.memory_allocated(device)
        if execution.max_memory_gb is not None:
            return execution.max_memory_gb * GIGABYTE - held
        # What the allocator has reserved and does not use is free to us, though not to others.
        unused, total = torch.cuda.mem_get_info(device)
        ours = torch.cuda.get_per_process_memory_fraction(_numbered(device)) * total
        return min(unused + torch.cuda.memory_reserved(device), ours) - held
    if execution.max_memory_gb is not None:
        return execution.max_memory_gb * GIGABYTE - _resident()
    # The same on every run of a machine, whatever else goes on: chunks decide the order of sums.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    ours = min(1.0, torch.get_num_threads() / cores) * _host_memory()
    return max(ours - BESIDE_STEPS, ours / 4)


def _host_memory() -> float:
    """Bytes of the machine, or of the container."""
    if not hasattr(os, "sysconf"):
        return float("inf")
    total = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (text := limit.read_text().strip()).isdigit():
        total = min(total, float(text))
    return total


def _resident() -> int:
    """Bytes of this process in memory now."""
    status = Path("/proc/self/statm")
    return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if status.is_file() else 0
