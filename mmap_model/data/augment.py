"""Random resized crops of a whole batch at once, as two batched matrix products.

Legend: N images, S side of the stored canvas, size side of the result. Cropping and bicubic resizing are
linear and separable: one image's view is ``rows @ image @ columns.T`` with small weight matrices [size, S].
This is the antialiased bicubic filter of Pillow (a = -0.5), on any device, without a loop over images.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

ATTEMPTS = 10
"""Crop shapes tried before the largest central one is taken, as in torchvision's RandomResizedCrop."""

_CHUNK = 1 << 25


@dataclass(frozen=True)
class Augmentation:
    """Random resized crop and horizontal flip.

    Attributes:
        scale: range of the crop's share of the image's area.
        ratio: range of its width over its height, drawn log-uniformly.
        flip: mirror every second image.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True

    noise = 2 * ATTEMPTS + 3
    """Uniform numbers one image takes."""

    def crops(self, noise: Tensor, extents: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes and flips from uniform noise.

        Args:
            noise: [N, `noise`] in [0, 1).
            extents: (height, width) of the images, [N, 2].

        Returns:
            Boxes [N, 4] (top, left, height, width) in pixels, and bool [N], True to mirror.
        """
        height, width = extents.to(noise.dtype).unbind(1)
        low, high = (torch.tensor(r, dtype=noise.dtype, device=noise.device).log() for r in self.ratio)
        share = self.scale[0] + (self.scale[1] - self.scale[0]) * noise[:, :ATTEMPTS]
        ratio = (low + (high - low) * noise[:, ATTEMPTS : 2 * ATTEMPTS]).exp()
        area = (height * width)[:, None] * share
        crop_width, crop_height = (area * ratio).sqrt(), (area / ratio).sqrt()
        fits = (crop_width <= width[:, None]) & (crop_height <= height[:, None])
        first = fits.to(torch.int8).argmax(1, keepdim=True)
        none = ~fits.any(1)
        # No attempt fits an elongated image: take the largest central crop of an allowed ratio.
        central_width = torch.minimum(width, height * self.ratio[1])
        central_height = torch.minimum(height, width / self.ratio[0])
        crop_width = torch.where(none, central_width, crop_width.gather(1, first).squeeze(1))
        crop_height = torch.where(none, central_height, crop_height.gather(1, first).squeeze(1))
        top = (height - crop_height) * torch.where(none, 0.5, noise[:, -3])
        left = (width - crop_width) * torch.where(none, 0.5, noise[:, -2])
        mirrored = (noise[:, -1] < 0.5) & self.flip
        return torch.stack([top, left, crop_height, crop_width], 1), mirrored


def crop_resize(
    images: Tensor, extents: Tensor, boxes: Tensor, mirrored: Tensor, size: int, dtype: torch.dtype
) -> Tensor:
    """The boxes of uint8 images [N, 3, S, S], resized to [N, 3, size, size] of ``dtype`` in [0, 255]."""
    side = images.shape[-1]
    extents, boxes = extents.to(dtype), boxes.to(dtype)
    rows = _weights(boxes[:, 0], boxes[:, 2], extents[:, 0], side, size)
    columns = _weights(boxes[:, 1], boxes[:, 3], extents[:, 1], side, size)
    columns = torch.where(mirrored[:, None, None], columns.flip(1), columns).transpose(1, 2)
    out = torch.empty(len(images), 3, size, size, dtype=dtype, device=images.device)
    step = max(1, _CHUNK // (3 * side * side))
    for start in range(0, len(images), step):
        part = slice(start, start + step)
        out[part] = rows[part, None] @ images[part].to(dtype) @ columns[part, None]
    return out.clamp_(0, 255)


def resize(images: Tensor, size: int) -> Tensor:
    """Whole square uint8 images [N, 3, S, S] as uint8 [N, 3, size, size], antialiased bicubic."""
    count, side = len(images), images.shape[-1]
    boxes = torch.tensor([0.0, 0.0, side, side]).expand(count, 4)
    extents, mirrored = torch.full((count, 2), side), torch.zeros(count, dtype=torch.bool)
    return crop_resize(images, extents, boxes, mirrored, size, torch.float32).round_().to(torch.uint8)


def _weights(start: Tensor, length: Tensor, extent: Tensor, side: int, size: int) -> Tensor:
    """Interpolation weights [N, size, side] along one axis; pixels at and after ``extent`` get none."""
    pixels = torch.arange(side, device=start.device, dtype=start.dtype) + 0.5
    targets = torch.arange(size, device=start.device, dtype=start.dtype) + 0.5
    scale = (length / size)[:, None, None]
    centres = start[:, None, None] + targets[None, :, None] * scale
    weights = _bicubic((pixels - centres) / scale.clamp(min=1))
    weights = weights * (pixels < extent[:, None, None])
    return weights / weights.sum(-1, keepdim=True)


def _bicubic(x: Tensor) -> Tensor:
    """Keys' cubic kernel with a = -0.5."""
    x = x.abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x <= 1, near, torch.where(x < 2, far, torch.zeros_like(x)))
