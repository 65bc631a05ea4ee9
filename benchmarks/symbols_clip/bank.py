"""The pretraining images, rendered once.

Benchmark classes appear only outside the four domains, and the four domains only on other classes.
"""

from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from mmap_model.symbols.glyphs import GLYPHS, Glyph
from mmap_model.symbols.renderer import BENCHMARK_SEED, DOMAINS, PRETRAINING_STYLES, render

BANK_SEED = 1
assert BANK_SEED != BENCHMARK_SEED


@dataclass(frozen=True)
class Bank:
    """images [N, 32, 32, 3]; rows[class][style] = (first row, number of rows)."""

    images: np.ndarray
    rows: tuple[dict[str, tuple[int, int]], ...]


def plan(glyph: Glyph, per_domain: int, per_style: int, per_benchmark_style: int) -> dict[str, int]:
    """How many images of a glyph to render in each style."""
    if glyph.benchmark:
        return dict.fromkeys(PRETRAINING_STYLES, per_benchmark_style)
    return {**dict.fromkeys(DOMAINS, per_domain), **dict.fromkeys(PRETRAINING_STYLES, per_style)}


def _render_class(job: tuple[Glyph, dict[str, int]]) -> np.ndarray:
    glyph, counts = job
    return np.stack(
        [render(glyph, style, (BANK_SEED, i)) for style, count in counts.items() for i in range(count)]
    )


def build(per_domain: int, per_style: int, per_benchmark_style: int, store: Path, processes: int = 2) -> Bank:
    """Render the bank, or read it from `store` (.npy); counts are images per class and style."""
    jobs = [(glyph, plan(glyph, per_domain, per_style, per_benchmark_style)) for glyph in GLYPHS]
    if not store.exists():
        with get_context("fork").Pool(processes) as pool:
            np.save(store, np.concatenate(pool.map(_render_class, jobs, chunksize=8)))
    rows = []
    first = 0
    for _, counts in jobs:
        spans = {}
        for style, count in counts.items():
            spans[style] = (first, count)
            first += count
        rows.append(spans)
    images = np.load(store)
    assert len(images) == first, f"{store} was written with other counts: delete it"
    return Bank(images, tuple(rows))
