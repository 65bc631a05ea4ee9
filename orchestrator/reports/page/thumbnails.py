"""Small images of a study's dataset, to be shown in a page; the one part of a page that imports torch."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence

from mmap_model.data.dataset import DatasetSpec
from mmap_model.errors import InputError

SIDE = 96
"""Pixels."""


def thumbnails(
    spec: DatasetSpec, manifest: str | None, wanted: Sequence[tuple[str, str]]
) -> Mapping[tuple[str, str], str]:
    """Images as ``data:`` addresses, by task and sample.

    Args:
        spec: the dataset.
        manifest: what it was when the study was begun; None where that is unknown.
        wanted: task and sample of each.

    Raises:
        DatasetError: it cannot be opened here.
        InputError: it holds other images by now.
    """
    import numpy as np

    from mmap_model.data import open_dataset

    if not wanted:
        return {}
    dataset = open_dataset(spec)
    if manifest is not None and dataset.manifest != manifest:
        raise InputError(
            "the dataset is not the one that the study was begun with, so its images would be others",
            where="--images",
            fix="leave out --images, or give the dataset back its former files",
        )
    found = {}
    for task in dict.fromkeys(task for task, _ in wanted):
        places = {sample: number for number, sample in enumerate(dataset.sample_ids(task))}
        samples = [sample for of, sample in wanted if of == task and sample in places]
        pixels = dataset.images(task, np.array([places[sample] for sample in samples], np.int64), SIDE)
        for sample, image in zip(samples, pixels.permute(0, 2, 3, 1).numpy(), strict=True):
            found[task, sample] = _address(image)
    return found


def _address(pixels: object) -> str:
    """An image as WebP within its address."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", quality=80)  # type: ignore[arg-type]
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
