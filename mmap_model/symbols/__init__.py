"""The embedded benchmark `symbols`: rendered glyphs in four domains and a small CLIP that knows them."""

from mmap_model.symbols.glyphs import BENCHMARK_CLASSES, GLYPHS, PRETRAINING_CLASSES, Glyph
from mmap_model.symbols.renderer import (
    DOMAINS,
    IMAGES_PER_CLASS,
    PRETRAINING_STYLES,
    benchmark_images,
    render,
)
from mmap_model.symbols.weights import CLIP_DIR, benchmark_sha256, frozen, weights_sha256

__all__ = [
    "BENCHMARK_CLASSES",
    "CLIP_DIR",
    "DOMAINS",
    "GLYPHS",
    "IMAGES_PER_CLASS",
    "PRETRAINING_CLASSES",
    "PRETRAINING_STYLES",
    "Glyph",
    "benchmark_images",
    "benchmark_sha256",
    "frozen",
    "render",
    "weights_sha256",
]
