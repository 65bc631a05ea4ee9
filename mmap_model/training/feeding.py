"""How a step gets its training pixels: which machine part crops, and what is made ready ahead of the step.

Legend: N images of one step (all replicates and tasks), K uniform numbers per image for its augmentation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmap_model.backbone import Backbone
from mmap_model.data.ahead import ahead
from mmap_model.data.augment import Augmentation, crop_resize, crop_resize_each, touched
from mmap_model.data.bank import Fetch, ImageBank, Indices
from mmap_model.data.pixels import TrainingPixels
from mmap_model.data.transfer import to_device

AugmentationNoise = npt.NDArray[np.float64]


class Feed(Protocol):
    """Training images by number."""

    def rows(self, task: int, indices: Indices) -> Indices:
        """Numbers of images of a task."""
        ...

    def stream(self, rows: Sequence[Indices], noise: Sequence[AugmentationNoise] | None) -> Iterator[Tensor]:
        """Pixels [N, 3, H, W] in [0, 255] of one step after another, on the device; uint8 or its precision.

        Args:
            rows: by step, numbers [N].
            noise: by step, [N, K]; None for the evaluation views.
        """
        ...


class BankFeed:
    """Images kept in the device's memory where they fit, cropped there all at once.

    Args:
        fetch, wanted: of the `ImageBank`.
        augmentation: None for the evaluation views.
        backbone: gives size, filter, device and precision.
    """

    def __init__(
        self,
        fetch: Fetch,
        wanted: Sequence[Sequence[Indices]],
        augmentation: Augmentation | None,
        backbone: Backbone,
    ) -> None:
        self._bank = ImageBank(fetch, wanted, device=backbone.device)
        self._augmentation = augmentation
        self._size, self._dtype = backbone.image_size, backbone.dtype
        self._interpolation = backbone.resize.interpolation

    def rows(self, task: int, indices: Indices) -> Indices:
        return self._bank.rows(task, indices)

    def stream(self, rows: Sequence[Indices], noise: Sequence[AugmentationNoise] | None) -> Iterator[Tensor]:
        taken = self._bank.stream(rows)
        for step, (images, extents) in enumerate(taken):
            if self._augmentation is None or noise is None:
                yield images.to(self._dtype)
                continue
            # Whole pixels are counted exactly, so that no device rounds to another one.
            exact = self._augmentation.whole_pixels
            drawn, of = torch.from_numpy(noise[step]), extents
            extents = to_device(extents, images.device)
            if not exact:
                drawn, of = to_device(drawn, images.device, self._dtype), extents
            boxes, mirrored = self._augmentation.crops(drawn, of)
            boxes, mirrored = (to_device(part, images.device) for part in (boxes, mirrored))
            yield crop_resize(
                images,
                extents,
                boxes,
                mirrored,
                self._size,
                self._dtype,
                isolated=exact,
                interpolation=self._interpolation,
            )


class PackedFeed:
    """Decoded images in the device's memory, each in its own size; crops are cut and resized there."""

    def __init__(self, pixels: TrainingPixels, augmentation: Augmentation, backbone: Backbone) -> None:
        assert augmentation.whole_pixels
        self._pixels, self._augmentation = pixels, augmentation
        self._size, self._device, self._dtype = backbone.image_size, backbone.device, backbone.dtype
        self._interpolation = backbone.resize.interpolation
        images = pixels.images(np.arange(len(pixels)))
        self._images = [torch.from_numpy(image.copy()).to(self._device) for image in images]

    def rows(self, task: int, indices: Indices) -> Indices:
        return self._pixels.rows(task, indices)

    def stream(self, rows: Sequence[Indices], noise: Sequence[AugmentationNoise] | None) -> Iterator[Tensor]:
        assert noise is not None, "evaluation views come from elsewhere"
        for own, drawn in zip(rows, noise, strict=True):
            boxes, mirrored = _crops(self._pixels, self._augmentation, own, drawn)
            first, last = (corner.long() for corner in touched(boxes))
            sizes = last - first
            side = int(sizes.max())
            crops = torch.zeros(len(own), side, side, 3, dtype=torch.uint8, device=self._device)
            corners = torch.cat([first, last], 1).tolist()
            for crop, row, (top, left, bottom, right) in zip(crops, own.tolist(), corners, strict=True):
                crop[: bottom - top, : right - left] = self._images[row][top:bottom, left:right]
            boxes[:, :2] -= first
            sizes, boxes, mirrored = (to_device(part, self._device) for part in (sizes, boxes, mirrored))
            yield crop_resize(
                crops.permute(0, 3, 1, 2),
                sizes,
                boxes,
                mirrored,
                self._size,
                self._dtype,
                isolated=True,
                interpolation=self._interpolation,
            )


class CropFeed:
    """Crops cut on the CPU from decoded images that all processes of the machine share, ahead of the step.

    Nothing is kept by this process, and only crops go to the device. As many threads work ahead as torch may
    use.
    """

    def __init__(self, pixels: TrainingPixels, augmentation: Augmentation, backbone: Backbone) -> None:
        assert augmentation.whole_pixels
        self._pixels, self._augmentation, self._device = pixels, augmentation, backbone.device
        self._size, self._interpolation = backbone.image_size, backbone.resize.interpolation

    def rows(self, task: int, indices: Indices) -> Indices:
        return self._pixels.rows(task, indices)

    def stream(self, rows: Sequence[Indices], noise: Sequence[AugmentationNoise] | None) -> Iterator[Tensor]:
        assert noise is not None, "evaluation views come from elsewhere"

        def cut(step: int) -> Tensor:
            boxes, mirrored = _crops(self._pixels, self._augmentation, rows[step], noise[step])
            images = self._pixels.images(rows[step])
            return crop_resize_each(images, boxes.numpy(), mirrored.numpy(), self._size, self._interpolation)

        threads = torch.get_num_threads()
        for cuts in ahead(cut, range(len(rows)), threads=threads, reach=threads + 1):
            yield to_device(cuts, self._device)


def _crops(
    pixels: TrainingPixels, augmentation: Augmentation, rows: Indices, noise: AugmentationNoise
) -> tuple[Tensor, Tensor]:
    """Boxes float64 [N, 4] on what is kept of the images, drawn on the images themselves; flips [N]."""
    extents = torch.from_numpy(pixels.extents(rows))
    boxes, mirrored = augmentation.crops(torch.from_numpy(noise), extents)
    return torch.from_numpy(pixels.boxes(rows, boxes.numpy())), mirrored
