"""Rendering: deterministic per (class, style, seed), and the frozen benchmark bytes."""

import numpy as np
import pytest

from mmap_model.symbols import (
    BENCHMARK_CLASSES,
    DOMAINS,
    GLYPHS,
    IMAGES_PER_CLASS,
    PRETRAINING_STYLES,
    benchmark_images,
    benchmark_sha256,
    frozen,
    render,
)
from mmap_model.symbols.renderer import BENCHMARK_SEED


@pytest.mark.parametrize("style", [*DOMAINS, *PRETRAINING_STYLES])
def test_image_depends_on_glyph_style_and_seed_only(style: str) -> None:
    image = render(GLYPHS[3], style, (1, 2))
    render(GLYPHS[4], style, (1, 2))
    assert image.shape == (32, 32, 3)
    assert image.dtype == np.uint8
    assert np.array_equal(render(GLYPHS[3], style, (1, 2)), image)
    assert not np.array_equal(render(GLYPHS[4], style, (1, 2)), image)
    assert not np.array_equal(render(GLYPHS[3], style, (1, 3)), image)


@pytest.mark.parametrize("style", [*DOMAINS, *PRETRAINING_STYLES])
def test_glyph_is_visible(style: str) -> None:
    for index in range(8):
        assert render(GLYPHS[index], style, (index,)).std() > 8


def test_benchmark_is_30_images_of_each_class_in_class_order() -> None:
    images, labels = benchmark_images("clipart")
    assert images.shape == (65 * 30, 32, 32, 3)
    assert labels.tolist() == np.repeat(np.arange(len(BENCHMARK_CLASSES)), IMAGES_PER_CLASS).tolist()
    assert np.array_equal(images[2 * 30 + 7], render(GLYPHS[2], "clipart", (BENCHMARK_SEED, 7)))


def test_benchmark_images_are_the_frozen_ones() -> None:
    assert benchmark_sha256() == frozen()["benchmark_sha256"]
