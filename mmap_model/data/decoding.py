"""From encoded images to the views that training and evaluation take. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import numpy as np
from PIL import ExifTags, Image, ImageOps

from mmap_model.errors import DatasetError
from mmap_model.preprocessing import CLIP_RESIZE, Resize

DAMAGE = (OSError, SyntaxError, ValueError, EOFError, RuntimeError, Image.DecompressionBombError)
"""What Pillow and its decoders raise for images that they cannot decode."""

SPARE = 1.5
"""Pixels along a side of the smallest crop of a shrunk image, for each pixel of its view. More costs memory
with its square. The worst crop of sharp images is 0.4 grey levels off on average; it would be 0.9 at 1.25 and
2.2 at 1."""

FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_TURNED = frozenset({5, 6, 7, 8})
"""EXIF orientations that swap height and width."""


def open_image(encoded: IO[bytes] | Path, name: str) -> Image.Image:
    """An RGB image, upright as its EXIF says. Raises DatasetError naming an image that cannot be decoded."""
    try:
        with Image.open(encoded) as file:
            ImageOps.exif_transpose(file, in_place=True)
            file.load()
            return _rgb(file)
    except DAMAGE as error:
        raise _undecodable(name, error) from error


def upright_rgb(image: Image.Image, name: str) -> Image.Image:
    """What ``open_image`` makes of an image that is open already; the image itself stays as it is."""
    try:
        return _rgb(ImageOps.exif_transpose(image))
    except DAMAGE as error:
        raise _undecodable(name, error) from error


def _rgb(image: Image.Image) -> Image.Image:
    """Eight bits in three channels. Of deeper grey images Pillow would cut off whatever exceeds 255."""
    if image.mode.startswith("I"):  # 16 bits, also where they are held in 32
        image = Image.fromarray((np.asarray(image) / 257).round().clip(0, 255).astype(np.uint8))
    elif image.mode == "F":
        values = np.asarray(image)
        scale = 255 if values.max(initial=0) <= 1 else 1
        image = Image.fromarray((values * scale).round().clip(0, 255).astype(np.uint8))
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # what Pillow would warn of for every such image
    return image if image.mode == "RGB" else image.convert("RGB")


def upright_size(encoded: IO[bytes], name: str) -> tuple[int, int]:
    """(height, width) that `open_image` would give, from the header alone. Raises DatasetError as it does."""
    try:
        with Image.open(encoded) as file:
            width, height = file.size
            turned = file.getexif().get(ExifTags.Base.Orientation, 1) in _TURNED
    except DAMAGE as error:
        raise _undecodable(name, error) from error
    return (width, height) if turned else (height, width)


def evaluation_view(image: Image.Image, side: int, resize: Resize = CLIP_RESIZE) -> Image.Image:
    """The square of ``side`` pixels that a backbone sees of an image, pixel for pixel as open_clip makes it.

    By default CLIP's own: short side to ``side`` (bicubic), then the central square.
    """
    width, height = image.size
    if resize.mode == "squash":
        size = (side, side)
    elif resize.mode == "longest":
        ratio = max(width, height) / side
        size = (max(1, round(width / ratio)), max(1, round(height / ratio)))
    else:
        short = min(width, height)
        size = (side * width // short, side * height // short)
    image = image.resize(size, FILTERS[resize.interpolation])
    if resize.mode == "longest":
        canvas = Image.new("RGB", (side, side), (resize.fill,) * 3)
        canvas.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        return canvas
    left, top = round((image.width - side) / 2), round((image.height - side) / 2)
    return image.crop((left, top, left + side, top + side))


def training_original(image: Image.Image, smallest: float, size: int) -> Image.Image:
    """What augmentation crops from: the image itself, or one shrunk so little that crops hardly differ.

    Args:
        image: upright RGB.
        smallest: the shortest side of any crop that can be drawn from it, pixels (`Augmentation.smallest`).
        size: side that crops are resized to.

    Returns:
        The image where no crop has `SPARE` times the pixels that its view needs; else the image shrunk
        (Lanczos) until the smallest crop has so many. No crop is enlarged that would not be on the image
        itself, and the filter's loss of sharpness lies above what the view can show.
    """
    factor = smallest / (SPARE * size)
    if factor <= 1:
        return image
    width, height = (max(1, round(side / factor)) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _undecodable(name: str, error: Exception) -> DatasetError:
    return DatasetError(
        f"{name} cannot be decoded: {error}", where="dataset.root", fix="replace or remove it"
    )
