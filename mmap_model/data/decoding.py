"""From encoded images to the views that training and evaluation take. No torch here."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps

from mmap_model.data.formats import DAMAGE, HEAD, TooManyPixels, check_scans, open_encoded, other_file
from mmap_model.errors import DatasetError
from mmap_model.preprocessing import CLIP_RESIZE, Resize

THIN = 64
"""Long side of an image, as a multiple of the short one, from which it is cropped before it is resized."""

SPARE = 1.5
"""Pixels along a side of the smallest crop of a shrunk image, for each pixel of its view. More costs memory
with its square. The worst crop of sharp images is 0.4 grey levels off on average; it would be 0.9 at 1.25 and
2.2 at 1."""

FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
Values = npt.NDArray[Any]

_CHUNK = 2**20
"""Pixels that are scaled at a time."""

_TURNED = frozenset({5, 6, 7, 8})
"""EXIF orientations that swap height and width."""


def open_image(encoded: IO[bytes] | Path, name: str) -> Image.Image:
    """An RGB image, upright as its EXIF says. Raises DatasetError naming an image that cannot be decoded."""
    try:
        with open_encoded(encoded) as file:
            check_scans(encoded, file)
            ImageOps.exif_transpose(file, in_place=True)
            file.load()
            return _rgb(file)
    except DAMAGE as error:
        raise _undecodable(name, encoded, error) from error


def upright_rgb(image: Image.Image, name: str) -> Image.Image:
    """What ``open_image`` makes of an image that is open already; the image itself stays as it is."""
    try:
        return _rgb(ImageOps.exif_transpose(image))
    except DAMAGE as error:
        raise _undecodable(name, None, error) from error


def _rgb(image: Image.Image) -> Image.Image:
    """Eight bits in three channels. Of deeper grey images Pillow would cut off whatever exceeds 255."""
    if image.mode.startswith("I"):  # 16 bits, also where they are held in 32
        image = _eight_bits(image, lambda values: values / 257)
    elif image.mode == "F":
        factor = 255 if np.asarray(image).max(initial=0) <= 1 else 1
        image = _eight_bits(image, lambda values: values * factor)
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # what Pillow would warn of for every such image
    return image if image.mode == "RGB" else image.convert("RGB")


def _eight_bits(image: Image.Image, scaled: Callable[[Values], Values]) -> Image.Image:
    """Grey levels of any depth, ``scaled`` to 0 to 255; some rows at a time, because floats take room."""
    values = np.asarray(image)
    grey: npt.NDArray[np.uint8] = np.empty(values.shape, np.uint8)
    rows = max(1, _CHUNK // values.shape[1])
    with np.errstate(invalid="ignore"):  # of what is no number, as some float images have
        for start in range(0, len(values), rows):
            part = slice(start, start + rows)
            grey[part] = scaled(values[part]).round().clip(0, 255).astype(np.uint8)
    return Image.fromarray(grey)


def upright_size(encoded: IO[bytes], name: str) -> tuple[int, int]:
    """(height, width) that `open_image` would give, from the header alone. Raises DatasetError as it does."""
    try:
        with open_encoded(encoded) as file:
            width, height = file.size
            turned = file.getexif().get(ExifTags.Base.Orientation, 1) in _TURNED
    except DAMAGE as error:
        raise _undecodable(name, encoded, error) from error
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
    elif max(width, height) > THIN * min(width, height):
        return _thin_view(image, side, FILTERS[resize.interpolation])
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


def _thin_view(image: Image.Image, side: int, filter_: Image.Resampling) -> Image.Image:
    """The central square of a very long image without resizing all of it, which may take gigabytes.

    As of the whole image, but for the last digit of positions along it: one grey level here and there.
    """
    width, height = image.size
    long, short = max(width, height), min(width, height)
    resized = side * long // short
    ratio = long / resized
    first = round((resized - side) / 2)
    start, end = first * ratio, (first + side) * ratio
    reach = 3 * max(1, math.ceil(ratio))  # beyond that no filter looks
    low, high = max(0, math.floor(start) - reach), min(long, math.ceil(end) + reach)
    # Horizontally first, as Pillow does: what is rounded in between is rounded alike.
    if width > height:
        part = image.crop((low, 0, high, height))
        part = part.resize((side, height), filter_, box=(start - low, 0, end - low, height))
        return part.resize((side, side), filter_)
    part = image.crop((0, low, width, high)).resize((side, high - low), filter_)
    return part.resize((side, side), filter_, box=(0, start - low, side, end - low))


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


def _undecodable(name: str, encoded: IO[bytes] | Path | None, error: Exception) -> DatasetError:
    head = b"" if encoded is None else _head(encoded)
    return DatasetError(
        f"{name} cannot be decoded: {reason(error, head, name)}",
        where="dataset.root",
        fix="replace or remove it",
    )


def reason(error: BaseException, head: bytes = b"", name: str = "") -> str:
    """Why an image cannot be decoded, in one line: what the file is instead, where its beginning tells."""
    if isinstance(error, TooManyPixels):
        return f"it {error}; scale it down or save it anew"
    other = other_file(head, name)
    if other is not None:
        return f"it is {other[0]}, which is not read; {other[1]}"
    if isinstance(error, MemoryError):
        return "it takes more memory than there is"
    text = str(error).partition(" <_io.BytesIO")[0].splitlines()
    return text[0] if text and text[0] else type(error).__name__


def _head(encoded: IO[bytes] | Path) -> bytes:
    try:
        if isinstance(encoded, Path):
            with encoded.open("rb") as file:
                return file.read(HEAD)
        encoded.seek(0)
        return encoded.read(HEAD)
    except (OSError, ValueError):  # ValueError: Pillow closed it
        return b""
