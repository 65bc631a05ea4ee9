"""From encoded images to the views that training and evaluation take. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import IO

from PIL import ExifTags, Image, ImageOps

from mmap_model.errors import DatasetError

_TURNED = frozenset({5, 6, 7, 8})
"""EXIF orientations that swap height and width."""


def open_image(encoded: IO[bytes] | Path, name: str) -> Image.Image:
    """An RGB image, upright as its EXIF says. Raises DatasetError naming an image that cannot be decoded."""
    try:
        with Image.open(encoded) as file:
            return ImageOps.exif_transpose(file).convert("RGB")
    except OSError as error:
        raise _undecodable(name, error) from error


def upright_size(encoded: IO[bytes], name: str) -> tuple[int, int]:
    """(height, width) that `open_image` would give, from the header alone. Raises DatasetError as it does."""
    try:
        with Image.open(encoded) as file:
            width, height = file.size
            turned = file.getexif().get(ExifTags.Base.Orientation, 1) in _TURNED
    except OSError as error:
        raise _undecodable(name, error) from error
    return (width, height) if turned else (height, width)


def centre_crop(image: Image.Image, side: int) -> Image.Image:
    """CLIP's evaluation view: short side to ``side`` (bicubic), then the central square."""
    width, height = image.size
    short = min(width, height)
    width, height = side * width // short, side * height // short
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - side) / 2), round((height - side) / 2)
    return image.crop((left, top, left + side, top + side))


def fit(image: Image.Image, side: int) -> tuple[Image.Image, tuple[int, int]]:
    """The whole image, shrunk if its longer side exceeds ``side``, and its (height, width)."""
    shrink = min(1.0, side / max(image.size))
    width, height = (max(1, round(edge * shrink)) for edge in image.size)
    if shrink < 1:
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    return image, (height, width)


def _undecodable(name: str, error: OSError) -> DatasetError:
    return DatasetError(
        f"{name} cannot be decoded: {error}", where="dataset.root", fix="replace or remove it"
    )
