"""Waiting for a device, and how much of the time it works."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch


def wait_for(device: str) -> Callable[[], None]:
    """A call that returns when the device has done all it was given."""
    return torch.cuda.synchronize if device.startswith("cuda") else lambda: None


def busy_share(device: str, work: Callable[[], Any]) -> float | None:
    """Share of the seconds of ``work`` in which kernels ran; None without CUDA."""
    if not device.startswith("cuda"):
        work()
        return None
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        began = time.perf_counter()
        work()
        torch.cuda.synchronize()
        seconds = time.perf_counter() - began
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in seen.events()
        if event.device_type == torch.autograd.DeviceType.CUDA
    )
    busy, end = 0.0, float("-inf")
    for start, stop in spans:
        busy += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return busy / 1e6 / seconds
