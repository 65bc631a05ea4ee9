"""From pixels in [0, 255] to what the backbone takes."""

from __future__ import annotations

import torch
from torch import Tensor

from mmap_model.backbone import Backbone


class Normalisation:
    """Subtracts the backbone's channel means and divides by its standard deviations, in its precision."""

    def __init__(self, backbone: Backbone) -> None:
        def channels(values: tuple[float, ...]) -> Tensor:
            return torch.tensor(values, dtype=backbone.dtype, device=backbone.device).view(3, 1, 1) * 255

        self._mean, self._std = channels(backbone.image_mean), channels(backbone.image_std)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Pixels [..., 3, H, W] of any type, normalised."""
        return torch.sub(pixels, self._mean).div_(self._std)
