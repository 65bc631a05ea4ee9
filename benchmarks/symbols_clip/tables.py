"""Everything that training draws from, made once: rendered images and captions of every class and style.

C classes, S = 14 styles (domains first), K captions of each, L tokens. Captions are rows of the model's own
token table. Both are made by processes that share the work class by class, before any device is used.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import bank
import numpy as np
from captions import _tokenizer, caption, vocabulary

from mmap_model.symbols.glyphs import GLYPHS
from mmap_model.symbols.renderer import DOMAINS, PRETRAINING_STYLES, render

STYLES = (*DOMAINS, *PRETRAINING_STYLES)
LENGTHS = (14, 20, 32)
"""Lengths that captions are cut to, start and end of text included."""


@dataclass(frozen=True)
class Images:
    """pixels uint8 [N, 32, 32, 3]; class c in style s has count[c, s] rows from first[c, s] on."""

    pixels: np.ndarray
    first: np.ndarray
    count: np.ndarray


@dataclass(frozen=True)
class Captions:
    """ids int16 [C, S + 1, K, L] and the position of their end of text, int16 [C, S + 1, K].

    The last "style" holds captions that say nothing about style.
    """

    ids: np.ndarray
    ends: np.ndarray


def words() -> list[int]:
    """The tokens that captions use, in the order of the model's own token table."""
    return vocabulary(tuple(glyph.name for glyph in GLYPHS))


def images(
    per_domain: int, per_style: int, per_benchmark_style: int, *, seed: int, store: Path, processes: int
) -> Images:
    """Render the images into ``store`` (.npy), or map those of an earlier call with the same counts."""
    plans = [bank.plan(glyph, per_domain, per_style, per_benchmark_style) for glyph in GLYPHS]
    count = np.array([[plan.get(style, 0) for style in STYLES] for plan in plans])
    first = (np.cumsum(count.ravel()) - count.ravel()).reshape(count.shape)
    shape = (int(count.sum()), 32, 32, 3)
    done = store.with_suffix(".done")
    if not done.exists():
        np.lib.format.open_memmap(store, "w+", np.uint8, shape).flush()
        jobs = [(number, first[number].tolist(), count[number].tolist()) for number in range(len(GLYPHS))]
        with get_context("fork").Pool(processes) as pool:
            pool.map(partial(_render_class, store, seed), jobs, chunksize=4)
        done.touch()
    pixels = np.load(store, mmap_mode="r")
    assert pixels.shape == shape, f"{store} was written with other counts: delete it"
    return Images(pixels, first, count)


def _render_class(store: Path, seed: int, job: tuple[int, list[int], list[int]]) -> None:
    number, first, count = job
    pixels = np.load(store, mmap_mode="r+")
    for style, start, images_of_it in zip(STYLES, first, count, strict=True):
        for index in range(images_of_it):
            pixels[start + index] = render(GLYPHS[number], style, (seed, index))


def captions(
    filler: float, photo_free: float, *, per_cell: int, seed: int, processes: int
) -> dict[int, Captions]:
    """By length, captions of which the share ``filler`` carries filler words or nonsense tokens.

    Args:
        filler, photo_free: see `captions.caption`.
        per_cell: K, captions of every class, style and length.
    """
    lookup = {token: row for row, token in enumerate(words())}
    work = partial(_captions_of, lookup, filler, photo_free, per_cell, seed)
    with get_context("fork").Pool(processes) as pool:
        found = pool.map(work, range(len(GLYPHS)), chunksize=8)
    return {
        length: Captions(np.stack([ids for ids, _ in of_length]), np.stack([ends for _, ends in of_length]))
        for length, of_length in zip(LENGTHS, zip(*found, strict=True), strict=True)
    }


def _captions_of(
    lookup: dict[int, int], filler: float, photo_free: float, per_cell: int, seed: int, number: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each length, the captions of one class."""
    rng = np.random.default_rng((seed, number))
    name = GLYPHS[number].name
    start, end = lookup[_tokenizer().sot_token_id], lookup[_tokenizer().eot_token_id]
    made = []
    for length in LENGTHS:
        ids = np.zeros((len(STYLES) + 1, per_cell, length), np.int16)
        ends = np.zeros((len(STYLES) + 1, per_cell), np.int16)
        for row, style in enumerate((*STYLES, "photo")):
            free = float(row == len(STYLES))
            for place in range(per_cell):
                tokens, _ = caption(rng, name, style, free, photo_free, filler, length - 2)
                known: Sequence[int] = [lookup[token] for token in tokens[: length - 2]]
                ids[row, place, : len(known) + 2] = [start, *known, end]
                ends[row, place] = len(known) + 1
        made.append((ids, ends))
    return made
