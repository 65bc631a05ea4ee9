"""From pixels in [0, 255] to what the backbone takes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmap_model.backbone import Backbone


class Normalisation:
    """Subtracts the backbone's channel means and divides by its standard deviations, in its precision."""

    def __init__(self, backbone: Backbone) -> None:
        self._mean, self._std = (
            channels(values, backbone.dtype, backbone.device)
            for values in (backbone.image_mean, backbone.image_std)
        )

    def __call__(self, pixels: Tensor) -> Tensor:
        """Pixels [..., 3, H, W] of any type, normalised."""
        return torch.sub(pixels, self._mean).div_(self._std)


def channels(values: Sequence[float], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Numbers by channel for pixels in [0, 1], as [3, 1, 1] for pixels in [0, 255]."""
    return torch.tensor(values, dtype=dtype, device=device).view(3, 1, 1) * 255
