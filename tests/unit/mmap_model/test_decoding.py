"""Evaluation views are those of open_clip, pixel for pixel."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from mmap_model.data import decoding
from mmap_model.data.decoding import THIN, evaluation_view, open_image
from mmap_model.errors import DatasetError
from mmap_model.preprocessing import MODES, Interpolation, Mode, Resize

SHAPES = [(97, 64), (64, 97), (50, 50), (300, 31), (33, 200), (20, 20), (225, 224)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("mode", MODES)
def test_views_equal_open_clips(mode: Mode, interpolation: Interpolation, shape: tuple[int, int]) -> None:
    from open_clip.transform import PreprocessCfg, image_transform_v2

    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    image = Image.fromarray(pixels)
    wanted = PreprocessCfg(
        size=48,
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        resize_mode=mode,
        interpolation=interpolation,
        fill_color=7,
    )
    theirs = (image_transform_v2(wanted, is_train=False)(image) * 255).round().to(torch.uint8)
    ours = np.asarray(evaluation_view(image, 48, Resize(mode, interpolation, fill=7)))
    assert np.array_equal(ours.transpose(2, 0, 1), theirs.numpy())


@pytest.mark.parametrize("error", [EOFError("no more images"), RuntimeError("decoder"), OSError("truncated")])
def test_whatever_a_decoder_raises_names_the_image(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(DatasetError, match=r"mug/1\.avif cannot be decoded"):
        open_image(io.BytesIO(b""), "mug/1.avif")


@pytest.mark.parametrize("shape", [(9, 1200), (1200, 9), (3, 1000), (1000, 2), (40, 2800)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_a_thin_image_is_cropped_first_and_looks_the_same(
    interpolation: Interpolation, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8))
    assert max(shape) > THIN * min(shape)
    cropped = np.asarray(evaluation_view(image, 48, Resize("shortest", interpolation))).astype(int)
    monkeypatch.setattr(decoding, "THIN", 10**9)
    whole = np.asarray(evaluation_view(image, 48, Resize("shortest", interpolation))).astype(int)
    assert abs(cropped - whole).max() <= 1
    assert (cropped != whole).mean() < 0.01


def test_a_thin_image_is_never_resized_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    made, resize = [], Image.Image.resize

    def recording(image: Image.Image, size: tuple[int, int], *rest: object, **more: object) -> Image.Image:
        made.append(size)
        return resize(image, size, *rest, **more)

    monkeypatch.setattr(Image.Image, "resize", recording)
    for size in ((60_000, 1), (1, 60_000), (60_000, 900)):
        for mode in MODES:
            assert evaluation_view(Image.new("RGB", size), 48, Resize(mode)).size == (48, 48)
    assert max(width * height for width, height in made) <= 48 * 60_000
