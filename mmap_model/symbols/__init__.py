"""The embedded benchmarks: rendered glyphs in four domains, and as tasks of known groups; two small CLIPs."""

from mmap_model.symbols.glyphs import BENCHMARK_CLASSES, GLYPHS, PRETRAINING_CLASSES, Glyph
from mmap_model.symbols.groups import (
    GROUPED_TASKS,
    GroupedTask,
    grouped_images,
    groups_sha256,
    known_partition,
)
from mmap_model.symbols.renderer import (
    DOMAINS,
    IMAGES_PER_CLASS,
    PRETRAINING_STYLES,
    benchmark_images,
    render,
)
from mmap_model.symbols.weights import CLIP_DIR, LONG_CLIP_DIR, benchmark_sha256, frozen, weights_sha256

__all__ = [
    "BENCHMARK_CLASSES",
    "CLIP_DIR",
    "DOMAINS",
    "GLYPHS",
    "GROUPED_TASKS",
    "IMAGES_PER_CLASS",
    "LONG_CLIP_DIR",
    "PRETRAINING_CLASSES",
    "PRETRAINING_STYLES",
    "Glyph",
    "GroupedTask",
    "benchmark_images",
    "benchmark_sha256",
    "frozen",
    "grouped_images",
    "groups_sha256",
    "known_partition",
    "render",
    "weights_sha256",
]
