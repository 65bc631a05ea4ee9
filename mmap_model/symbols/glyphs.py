"""The named glyph classes: which glyphs of DejaVu Sans exist here and which 65 of them are the benchmark.

`glyphs.csv` is the list of record (name, code point, 1 for a benchmark class). It was made by
`benchmarks/symbols_clip/make_glyphs.py` from the Unicode names, leaving out glyphs that look alike.
"""

import csv
import functools
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

MASK_SIZE = 96
INK_SIZE = 80
_FONT_SIZE = 160


@dataclass(frozen=True)
class Glyph:
    """One class: a readable name ("anchor"), its code point, and whether it belongs to the benchmark."""

    name: str
    codepoint: int
    benchmark: bool


def _read_glyphs() -> tuple[Glyph, ...]:
    with (Path(__file__).parent / "glyphs.csv").open(encoding="utf-8", newline="") as file:
        return tuple(
            Glyph(row["name"], int(row["codepoint"], 16), row["benchmark"] == "1")
            for row in csv.DictReader(file)
        )


@functools.cache
def font_path() -> Path:
    """DejaVuSans.ttf inside the installed matplotlib, found without importing matplotlib."""
    spec = importlib.util.find_spec("matplotlib")
    assert spec is not None, "matplotlib is a dependency of this project"
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]) / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"


@functools.cache
def _font() -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(font_path()), _FONT_SIZE, layout_engine=ImageFont.Layout.BASIC)


@functools.cache
def glyph_image(codepoint: int) -> Image.Image:
    """The glyph as an "L" image of MASK_SIZE², 255 = ink, centred, INK_SIZE long on the longer side."""
    character = chr(codepoint)
    left, top, right, bottom = _font().getbbox(character)
    canvas = Image.new("L", (int(right - left) + 8, int(bottom - top) + 8), 0)
    ImageDraw.Draw(canvas).text((4 - left, 4 - top), character, fill=255, font=_font())
    ink = canvas.crop(canvas.getbbox())
    scale = INK_SIZE / max(ink.size)
    width, height = (max(1, round(side * scale)) for side in ink.size)
    mask = Image.new("L", (MASK_SIZE, MASK_SIZE), 0)
    mask.paste(
        ink.resize((width, height), Image.Resampling.BOX),
        ((MASK_SIZE - width) // 2, (MASK_SIZE - height) // 2),
    )
    return mask


def glyph_mask(codepoint: int) -> npt.NDArray[np.uint8]:
    """`glyph_image` as an array [MASK_SIZE, MASK_SIZE]."""
    return np.asarray(glyph_image(codepoint), dtype=np.uint8)


GLYPHS: tuple[Glyph, ...] = _read_glyphs()
BENCHMARK_GLYPHS: tuple[Glyph, ...] = tuple(glyph for glyph in GLYPHS if glyph.benchmark)
PRETRAINING_GLYPHS: tuple[Glyph, ...] = tuple(glyph for glyph in GLYPHS if not glyph.benchmark)
BENCHMARK_CLASSES: tuple[str, ...] = tuple(glyph.name for glyph in BENCHMARK_GLYPHS)
PRETRAINING_CLASSES: tuple[str, ...] = tuple(glyph.name for glyph in PRETRAINING_GLYPHS)
