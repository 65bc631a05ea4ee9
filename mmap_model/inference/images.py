"""Images as people hand them over, and the pixels that a backbone sees of them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from mmap_model.data.decoding import evaluation_view, open_image, upright_rgb
from mmap_model.data.formats import DAMAGE
from mmap_model.errors import DatasetError
from mmap_model.preprocessing import Resize

Picture: TypeAlias = str | Path | bytes | Image.Image | npt.NDArray[Any] | Tensor
"""One image: a file, its bytes, a Pillow image, an array [H, W] or [H, W, channels], or a tensor."""

Pictures: TypeAlias = Picture | Iterable[Picture]
"""One image, an array or tensor of several (the first axis), or whatever gives one after the other."""


def pixels_of(image: Picture, size: int, resize: Resize, name: str = "image") -> Tensor:
    """The square that a backbone sees of an image, upright and in RGB: uint8 [3, size, size].

    Args:
        image: one image; arrays hold whole numbers, 0 to 255 (of one channel also to 65535).
        size: side of the square, pixels.
        resize: how the image becomes that square.
        name: of the image, for messages.

    Raises:
        DatasetError: naming an image that cannot be decoded, or an array that is none.
    """
    try:
        view = evaluation_view(_opened(image, name), size, resize)
    except DatasetError as error:
        raise DatasetError(error.problem, fix=error.fix) from error
    except DAMAGE as error:
        raise DatasetError(f"{name} cannot be resized: {error}", fix="replace or remove it") from error
    return torch.from_numpy(np.array(view)).permute(2, 0, 1).contiguous()


def each(images: Pictures) -> Iterator[tuple[str, Picture]]:
    """The images one by one, each with a name: its path, or ``image N`` by its place, from 0."""
    if isinstance(images, Tensor | np.ndarray):
        several: Iterable[Picture] = images if images.ndim == 4 else (images,)
    elif isinstance(images, str | Path | bytes | Image.Image):
        several = (images,)
    else:
        several = images
    for number, image in enumerate(several):
        yield str(image) if isinstance(image, str | Path) else f"image {number}", image


def _opened(image: Picture, name: str) -> Image.Image:
    if isinstance(image, str | Path):
        return open_image(Path(image), name)
    if isinstance(image, bytes):
        return open_image(io.BytesIO(image), name)
    if isinstance(image, Image.Image):
        return upright_rgb(image, name)
    if isinstance(image, Tensor):
        if image.ndim != 3 or image.shape[0] != 3 or image.dtype != torch.uint8:
            raise DatasetError(
                f"{name} is a tensor of {image.dtype} {list(image.shape)}",
                fix="give uint8 [3, height, width] with values from 0 to 255",
            )
        image = image.permute(1, 2, 0).cpu().numpy()
    if not isinstance(image, np.ndarray):
        raise DatasetError(
            f"{name} is a {type(image).__name__}",
            fix="give a path, bytes, a Pillow image, or an array of whole numbers from 0 to 255",
        )
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    grey = image.ndim == 2 and image.dtype in (np.uint8, np.uint16)
    coloured = image.ndim == 3 and image.shape[2] in (3, 4) and image.dtype == np.uint8
    if not (grey or coloured) or 0 in image.shape:
        raise DatasetError(
            f"{name} is an array of {image.dtype} {list(image.shape)}",
            fix="give uint8 [height, width, 3] with values from 0 to 255",
        )
    return upright_rgb(Image.fromarray(np.ascontiguousarray(image)), name)
