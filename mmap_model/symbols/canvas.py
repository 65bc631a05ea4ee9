"""Random ingredients of an image: pose, colours, noise fields. Arrays are float32 in 0..1 on a CANVAS² grid.

Images must have the same bytes on every machine, so pixel arithmetic is restricted to + - * / min max and to
Pillow's integer filters: no exp, pow, matmul or reductions, whose last bit depends on the processor.
"""

import math

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from mmap_model.symbols.glyphs import INK_SIZE, MASK_SIZE, Glyph, glyph_image

Floats = npt.NDArray[np.float32]

CANVAS = 64
IMAGE_SIZE = 32


def posed(glyph: Glyph, rng: np.random.Generator) -> Image.Image:
    """The glyph, "L" of CANVAS², 255 = ink, rotated (±18°), scaled (64–88 % of the side), shifted."""
    angle = math.radians(rng.uniform(-18, 18))
    length = rng.uniform(0.64, 0.88) * CANVAS
    scale_x = INK_SIZE / length * rng.uniform(0.93, 1.07)
    scale_y = INK_SIZE / length * rng.uniform(0.93, 1.07)
    room = (CANVAS - length) / 2
    centre_x = CANVAS / 2 + rng.uniform(-0.8, 0.8) * room
    centre_y = CANVAS / 2 + rng.uniform(-0.8, 0.8) * room
    cos, sin = math.cos(angle), math.sin(angle)
    a, b, d, e = scale_x * cos, scale_x * sin, -scale_y * sin, scale_y * cos
    middle = MASK_SIZE / 2
    return glyph_image(glyph.codepoint).transform(
        (CANVAS, CANVAS),
        Image.Transform.AFFINE,
        (a, b, middle - a * centre_x - b * centre_y, d, e, middle - d * centre_x - e * centre_y),
        Image.Resampling.BILINEAR,
    )


def coverage(image: Image.Image) -> Floats:
    """An "L" image as [CANVAS, CANVAS] in 0..1."""
    return np.asarray(image, dtype=np.float32) / np.float32(255)


def grown(image: Image.Image, pixels: int) -> Image.Image:
    """Ink dilated (positive) or eroded (negative) by this many canvas pixels."""
    if pixels == 0:
        return image
    size = 2 * abs(pixels) + 1
    return image.filter(ImageFilter.MaxFilter(size) if pixels > 0 else ImageFilter.MinFilter(size))


def shifted(image: Image.Image, x: int, y: int) -> Image.Image:
    """Moved right by x and down by y canvas pixels, 0 coming in."""
    moved = Image.new("L", image.size, 0)
    moved.paste(image, (x, y))
    return moved


def blurred(image: Image.Image, radius: float) -> Image.Image:
    return image.filter(ImageFilter.BoxBlur(radius))


def noise(rng: np.random.Generator, cells: int, channels: int = 1) -> Floats:
    """Smooth random field in 0..1 with this many cells along a side, [CANVAS, CANVAS(, channels)]."""
    grid = rng.integers(0, 256, (cells, cells) if channels == 1 else (cells, cells, channels), dtype=np.uint8)
    return coverage(Image.fromarray(grid).resize((CANVAS, CANVAS), Image.Resampling.BICUBIC))


def grain(rng: np.random.Generator) -> Floats:
    """Independent uniform noise per canvas pixel in 0..1, [CANVAS, CANVAS]."""
    return rng.integers(0, 256, (CANVAS, CANVAS), dtype=np.uint8).astype(np.float32) / np.float32(255)


def colour(rng: np.random.Generator, low: float = 0.0, high: float = 1.0) -> Floats:
    """A uniform random colour [3] with entries between low and high."""
    return rng.uniform(low, high, 3).astype(np.float32)


def luminance(rgb: Floats) -> float:
    return 0.3 * float(rgb[0]) + 0.59 * float(rgb[1]) + 0.11 * float(rgb[2])


def colour_pair(
    rng: np.random.Generator, contrast: float, low: float = 0.0, high: float = 1.0
) -> tuple[Floats, Floats]:
    """Ink and ground colours of at least this luminance difference (black and white after 64 draws)."""
    for _ in range(64):
        ink, ground = colour(rng, low, high), colour(rng, low, high)
        if abs(luminance(ink) - luminance(ground)) >= contrast:
            return ink, ground
    return np.zeros(3, np.float32), np.ones(3, np.float32)


def blend(below: Floats, above: Floats, alpha: Floats) -> Floats:
    """`above` over `below` ([CANVAS, CANVAS, 3] or [3]) by alpha [CANVAS, CANVAS]."""
    return below + (above - below) * alpha[..., None]


def stripes(rng: np.random.Generator, period: float, degrees: float) -> Floats:
    """Triangle wave in 0..1 across parallel lines at this angle, [CANVAS, CANVAS]."""
    angle = math.radians(degrees)
    axis = np.arange(CANVAS, dtype=np.float32)
    phase = axis[None] * np.float32(math.cos(angle) / period) + axis[:, None] * np.float32(
        math.sin(angle) / period
    )
    phase = phase + np.float32(rng.uniform(0, 1))
    wave: Floats = np.abs(phase - np.floor(phase) - np.float32(0.5)) * np.float32(2)
    return wave


def to_image(canvas: Floats) -> npt.NDArray[np.uint8]:
    """Quantise [CANVAS, CANVAS, 3] and halve it to [IMAGE_SIZE, IMAGE_SIZE, 3] uint8."""
    full = np.clip(canvas * np.float32(255) + np.float32(0.5), 0, 255).astype(np.uint8)
    return np.asarray(Image.fromarray(full).reduce(CANVAS // IMAGE_SIZE), dtype=np.uint8)
