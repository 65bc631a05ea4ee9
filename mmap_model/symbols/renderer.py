"""Glyphs to pictures: `render` draws one image, `benchmark_images` the frozen images of one benchmark domain.

An image depends only on (glyph, style, seed): every draw comes from a Philox stream keyed by the three, so
call order, process and the other classes do not matter.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from PIL import Image

from mmap_model.symbols import domain_styles, other_styles
from mmap_model.symbols.canvas import IMAGE_SIZE, Floats, posed, to_image
from mmap_model.symbols.glyphs import BENCHMARK_GLYPHS, Glyph

Style = Callable[[Image.Image, np.random.Generator], Floats]

DOMAIN_STYLES: Mapping[str, Style] = MappingProxyType(
    {
        "clipart": domain_styles.clipart,
        "painting": domain_styles.painting,
        "photo": domain_styles.photo,
        "sketch": domain_styles.sketch,
    }
)
OTHER_STYLES: Mapping[str, Style] = MappingProxyType(
    {
        "plain": other_styles.plain,
        "icon": other_styles.icon,
        "neon": other_styles.neon,
        "stamp": other_styles.stamp,
        "chalk": other_styles.chalk,
        "mosaic": other_styles.mosaic,
        "embroidery": other_styles.embroidery,
        "blueprint": other_styles.blueprint,
        "engraving": other_styles.engraving,
        "poster": other_styles.poster,
    }
)
DOMAINS: tuple[str, ...] = tuple(DOMAIN_STYLES)
PRETRAINING_STYLES: tuple[str, ...] = tuple(OTHER_STYLES)
IMAGES_PER_CLASS = 30
BENCHMARK_SEED = 20240
_STYLES: Mapping[str, Style] = MappingProxyType({**DOMAIN_STYLES, **OTHER_STYLES})


def render(glyph: Glyph, style: str, seed: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """One image [IMAGE_SIZE, IMAGE_SIZE, 3] of a glyph in a style (one of DOMAINS or PRETRAINING_STYLES)."""
    style_key = int.from_bytes(style.encode(), "big")
    key = np.random.SeedSequence((glyph.codepoint, style_key, *seed))
    rng = np.random.Generator(np.random.Philox(key))
    return to_image(_STYLES[style](posed(glyph, rng), rng))


def benchmark_images(domain: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """All images [65·30, 32, 32, 3] of one domain with their labels [65·30], ordered by class, then index."""
    count = len(BENCHMARK_GLYPHS) * IMAGES_PER_CLASS
    images = np.empty((count, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    for label, glyph in enumerate(BENCHMARK_GLYPHS):
        for index in range(IMAGES_PER_CLASS):
            images[label * IMAGES_PER_CLASS + index] = render(glyph, domain, (BENCHMARK_SEED, index))
    return images, np.repeat(np.arange(len(BENCHMARK_GLYPHS)), IMAGES_PER_CLASS)
