"""Random resized crops, in two ways that agree.

Legend: N images, S side of the stored canvas, size side of the result.

`crop_resize`: cropping and resizing are linear and separable, so one image's view is
``rows @ image @ columns.T`` with small weight matrices [size, S]; a whole batch is two batched matrix
products, on any device, without a loop over images. `crop_resize_each`: image by image with torch's kernel
for 8 bits, which is an order of magnitude faster on a CPU. Both are the antialiased filters of Pillow and
torchvision: bicubic (a = -0.5), or bilinear for backbones that ask for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from mmap_model.data.decoding import FILTERS
from mmap_model.preprocessing import Interpolation

ATTEMPTS = 10
"""Crop shapes tried before the largest central one is taken, as in torchvision's RandomResizedCrop."""

_CHUNK = 1 << 25

_EDGE = 1e-4


@dataclass(frozen=True)
class Augmentation:
    """Random resized crop and horizontal flip.

    Attributes:
        scale: range of the crop's share of the image's area.
        ratio: range of its width over its height, drawn log-uniformly.
        flip: mirror every second image.
        whole_pixels: boxes begin and end at pixels, and what lies outside of one has no part in its view, as
            in torchvision's RandomResizedCrop. For images of few pixels that would be coarse.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True
    whole_pixels: bool = False

    noise = 2 * ATTEMPTS + 3
    """Uniform numbers one image takes."""

    def smallest(self, height: int, width: int) -> float:
        """The shortest side, in pixels, of any crop that can be drawn from an image (whole pixels aside)."""
        area = self.scale[0] * height * width
        drawn = min(math.sqrt(area / self.ratio[1]), math.sqrt(area * self.ratio[0]))
        return min(drawn, height, width, height * self.ratio[1], width / self.ratio[0])

    def crops(self, noise: Tensor, extents: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes and flips from uniform noise.

        Args:
            noise: [N, `noise`] in [0, 1).
            extents: (height, width) of the images, [N, 2].

        Returns:
            Boxes [N, 4] (top, left, height, width) in pixels, and bool [N], True to mirror.
        """
        height, width = extents.to(noise.dtype).unbind(1)
        # On the host: a device takes numbers of no dimension as they are, without a copy that waits.
        low, high = torch.tensor(self.ratio, dtype=noise.dtype).log().unbind()
        share = self.scale[0] + (self.scale[1] - self.scale[0]) * noise[:, :ATTEMPTS]
        ratio = (low + (high - low) * noise[:, ATTEMPTS : 2 * ATTEMPTS]).exp()
        area = (height * width)[:, None] * share
        crop_width, crop_height = (area * ratio).sqrt(), (area / ratio).sqrt()
        if self.whole_pixels:
            crop_width, crop_height = crop_width.round(), crop_height.round()
        fits = (crop_width <= width[:, None]) & (crop_height <= height[:, None])
        fits &= (crop_width > 0) & (crop_height > 0)
        first = fits.to(torch.int8).argmax(1, keepdim=True)
        none = ~fits.any(1)
        # No attempt fits an elongated image: take the largest central crop of an allowed ratio.
        central_width = torch.minimum(width, height * self.ratio[1])
        central_height = torch.minimum(height, width / self.ratio[0])
        if self.whole_pixels:
            central_width, central_height = central_width.round(), central_height.round()
        crop_width = torch.where(none, central_width, crop_width.gather(1, first).squeeze(1))
        crop_height = torch.where(none, central_height, crop_height.gather(1, first).squeeze(1))
        top, left = height - crop_height, width - crop_width
        if self.whole_pixels:
            # Every place is as likely as any other; noise is below 1, so the last one is not overstepped.
            top = torch.where(none, top / 2, (top + 1) * noise[:, -3]).floor()
            left = torch.where(none, left / 2, (left + 1) * noise[:, -2]).floor()
        else:
            top = top * torch.where(none, 0.5, noise[:, -3])
            left = left * torch.where(none, 0.5, noise[:, -2])
        mirrored = (noise[:, -1] < 0.5) & self.flip
        return torch.stack([top, left, crop_height, crop_width], 1), mirrored


def crop_resize(
    images: Tensor,
    extents: Tensor,
    boxes: Tensor,
    mirrored: Tensor,
    size: int,
    dtype: torch.dtype,
    *,
    isolated: bool = False,
    interpolation: Interpolation = "bicubic",
) -> Tensor:
    """The boxes of uint8 images [N, 3, S, S], resized to [N, 3, size, size] of ``dtype`` in [0, 255].

    With ``isolated``, a box is cut out first with the pixels that it touches, so those outside have no part
    in its view, and both passes, horizontal and then vertical, end in whole grey levels: what 8-bit
    implementations do. Otherwise the filter reaches beyond the box and nothing is rounded.
    """
    side = images.shape[-1]
    first, last = (part.to(dtype) for part in touched(boxes))
    extents, boxes = extents.to(dtype), boxes.to(dtype)
    starts = first if isolated else torch.zeros_like(extents)
    ends = last if isolated else extents
    kernel = _KERNELS[interpolation]
    rows = _weights(boxes[:, 0], boxes[:, 2], starts[:, 0], ends[:, 0], side, size, kernel)
    columns = _weights(boxes[:, 1], boxes[:, 3], starts[:, 1], ends[:, 1], side, size, kernel)
    columns = torch.where(mirrored[:, None, None], columns.flip(1), columns).transpose(1, 2)
    out = torch.empty(len(images), 3, size, size, dtype=dtype, device=images.device)
    step = max(1, _CHUNK // (3 * side * side))
    for start in range(0, len(images), step):
        part = slice(start, start + step)
        whole = images[part].to(dtype)
        if isolated:
            narrow = (whole @ columns[part, None]).round_().clamp_(0, 255)
            out[part] = (rows[part, None] @ narrow).round_()
        else:
            out[part] = rows[part, None] @ whole @ columns[part, None]
    return out.clamp_(0, 255)


def crop_resize_each(
    images: Iterable[npt.NDArray[np.uint8]],
    boxes: npt.NDArray[np.int64] | npt.NDArray[np.float64],
    mirrored: npt.NDArray[np.bool_],
    size: int,
    interpolation: Interpolation = "bicubic",
) -> Tensor:
    """The boxes of uint8 images [height, width, 3] of any sizes, cut out and resized on the CPU.

    Boxes of whole pixels take torch's kernel, others Pillow's, which knows parts of pixels.

    Args:
        images: N of them; only the pixels that their boxes touch are read.
        boxes: [N, 4]: top, left, height, width, within the image.
        mirrored: [N], True to mirror.
        size: side of the result.
        interpolation: the filter.

    Returns:
        uint8 [N, 3, size, size].
    """
    out = torch.empty(len(boxes), 3, size, size, dtype=torch.uint8)
    whole = (boxes == np.round(boxes)).all(axis=1)
    corners = torch.cat(touched(torch.from_numpy(boxes)), 1).long().tolist()
    for place, (image, corner) in enumerate(zip(images, corners, strict=True)):
        top, left, bottom, right = corner
        # The copy is as small as the crop, writable as torch asks, and laid out for the 8-bit kernel.
        crop = image[top:bottom, left:right].copy()
        if whole[place]:
            pixels = torch.from_numpy(crop).permute(2, 0, 1)[None]
            view = functional.interpolate(
                pixels, (size, size), mode=interpolation, antialias=True, align_corners=False
            )[0]
        else:
            view = _part_of(crop, boxes[place] - (top, left, 0, 0), size, interpolation)
        out[place] = view.flip(2) if mirrored[place] else view
    return out


def touched(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """The first (top, left) and the last (bottom, right; exclusive) pixels [N, 2] that boxes [N, 4] touch."""
    start, end = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    if not boxes.is_floating_point():
        return start, end
    # A box that ends at a pixel's edge does not touch the next one, whatever the last digit.
    return (start + _EDGE).floor(), (end - _EDGE).ceil()


def _part_of(
    crop: npt.NDArray[np.uint8], box: npt.NDArray[np.float64], size: int, interpolation: Interpolation
) -> Tensor:
    """A box (top, left, height, width) of an image [height, width, 3] as uint8 [3, size, size], by Pillow."""
    top, left, height, width = box.tolist()
    bottom, right = min(top + height, crop.shape[0]), min(left + width, crop.shape[1])
    view = Image.fromarray(crop).resize(
        (size, size), FILTERS[interpolation], box=(max(left, 0.0), max(top, 0.0), right, bottom)
    )
    return torch.from_numpy(np.array(view)).permute(2, 0, 1)


def resize(images: Tensor, size: int, interpolation: Interpolation = "bicubic") -> Tensor:
    """Whole square uint8 images [N, 3, S, S] as uint8 [N, 3, size, size], antialiased."""
    count, side = len(images), images.shape[-1]
    boxes = torch.tensor([0.0, 0.0, side, side]).expand(count, 4)
    extents, mirrored = torch.full((count, 2), side), torch.zeros(count, dtype=torch.bool)
    resized = crop_resize(images, extents, boxes, mirrored, size, torch.float32, interpolation=interpolation)
    return resized.round_().to(torch.uint8)


def _weights(
    start: Tensor,
    length: Tensor,
    low: Tensor,
    high: Tensor,
    side: int,
    size: int,
    kernel: Callable[[Tensor], Tensor],
) -> Tensor:
    """Interpolation weights [N, size, side] along one axis; pixels outside [low, high) get none."""
    pixels = torch.arange(side, device=start.device, dtype=start.dtype) + 0.5
    targets = torch.arange(size, device=start.device, dtype=start.dtype) + 0.5
    scale = (length / size)[:, None, None]
    centres = start[:, None, None] + targets[None, :, None] * scale
    weights = kernel((pixels - centres) / scale.clamp(min=1))
    weights = weights * ((pixels > low[:, None, None]) & (pixels < high[:, None, None]))
    return weights / weights.sum(-1, keepdim=True)


def _bicubic(x: Tensor) -> Tensor:
    """Keys' cubic kernel with a = -0.5."""
    x = x.abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x <= 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def _bilinear(x: Tensor) -> Tensor:
    return (1 - x.abs()).clamp(min=0)


_KERNELS: dict[Interpolation, Callable[[Tensor], Tensor]] = {"bicubic": _bicubic, "bilinear": _bilinear}
