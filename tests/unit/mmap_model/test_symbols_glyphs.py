"""The glyph list: size, names, and that no two classes look alike."""

import subprocess
import sys

import numpy as np
from PIL import Image, ImageFilter

from mmap_model.symbols.glyphs import (
    BENCHMARK_CLASSES,
    BENCHMARK_GLYPHS,
    GLYPHS,
    INK_SIZE,
    PRETRAINING_CLASSES,
    glyph_image,
    glyph_mask,
)


def _feature(image: Image.Image) -> np.ndarray:
    small = image.filter(ImageFilter.GaussianBlur(2)).resize((32, 32), Image.Resampling.BOX)
    vector = np.asarray(small, dtype=np.float64).ravel()
    vector -= vector.mean()
    return vector / np.linalg.norm(vector)


def test_65_benchmark_classes_and_at_least_335_others_with_distinct_names_and_code_points() -> None:
    assert len(BENCHMARK_CLASSES) == 65
    assert len(PRETRAINING_CLASSES) >= 335
    assert len({glyph.name for glyph in GLYPHS}) == len({glyph.codepoint for glyph in GLYPHS}) == len(GLYPHS)


def test_names_are_lower_case_words_of_printable_ascii() -> None:
    for glyph in GLYPHS:
        assert glyph.name == glyph.name.strip().lower()
        assert glyph.name.isascii() and glyph.name.isprintable()
    assert {"anchor", "snowman", "chess knight", "umbrella"} <= set(BENCHMARK_CLASSES)


def test_ink_is_normalised_to_the_longer_side() -> None:
    for glyph in GLYPHS[::25]:
        left, top, right, bottom = glyph_image(glyph.codepoint).getbbox()
        assert abs(max(right - left, bottom - top) - INK_SIZE) <= 1
        assert glyph_mask(glyph.codepoint).max() > 200


def test_no_glyph_nearly_coincides_with_a_benchmark_glyph_or_its_mirror_image() -> None:
    features = np.stack([_feature(glyph_image(glyph.codepoint)) for glyph in GLYPHS])
    mirrored = np.stack(
        [
            _feature(glyph_image(glyph.codepoint).transpose(Image.Transpose.FLIP_LEFT_RIGHT))
            for glyph in BENCHMARK_GLYPHS
        ]
    )
    likeness = features[:65] @ features.T
    np.fill_diagonal(likeness, 0)
    likeness_to_mirror = mirrored @ features.T
    np.fill_diagonal(likeness_to_mirror, 0)
    assert likeness.max() < 0.9
    assert likeness_to_mirror.max() < 0.9


def test_package_imports_without_torch_or_matplotlib() -> None:
    code = "import sys, mmap_model.symbols; sys.exit(bool({'torch', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
