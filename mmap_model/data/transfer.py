"""From the host's memory to a device, without letting the host wait."""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """The tensor on ``device``, in ``dtype`` if that is given.

    Only from pinned memory does a copy run beside the host; the type changes on the device, since bytes are
    less to copy than floats.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device, dtype)
