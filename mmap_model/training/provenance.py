"""What a result was computed with: facts that are recorded beside the numbers and do not identify them."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

import torch

PACKAGES = ("torch", "open_clip_torch", "numpy", "pillow", "safetensors")


def provenance(device: torch.device | str) -> dict[str, Any]:
    """Versions, device and threads."""
    device = torch.device(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
        "device": device.type,
        "device_name": name,
        "threads": torch.get_num_threads(),
    }
