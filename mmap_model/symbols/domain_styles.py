"""The four benchmark domains: a posed glyph ("L", CANVAS²) to a picture [CANVAS, CANVAS, 3] in 0..1."""

import math

import numpy as np
from PIL import Image

from mmap_model.symbols.canvas import (
    CANVAS,
    Floats,
    blend,
    blurred,
    colour,
    colour_pair,
    coverage,
    grain,
    grown,
    noise,
    shifted,
    stripes,
)


def clipart(ink: Image.Image, rng: np.random.Generator) -> Floats:
    """Flat saturated fill, dark outline, flat light ground; sometimes a badge or a hard shadow."""
    fill, ground = colour_pair(rng, 0.2, 0.25, 1.0)
    fill = fill.copy()
    fill[rng.integers(3)] = 0.05 + 0.2 * rng.random(dtype=np.float32)
    ground = np.float32(0.45) + np.float32(0.55) * ground
    outline = colour(rng, 0.0, 0.18)
    canvas = np.broadcast_to(ground, (CANVAS, CANVAS, 3)).astype(np.float32)
    if rng.random() < 0.4:
        canvas = blend(canvas, np.float32(0.5) + np.float32(0.5) * colour(rng), _badge(rng))
    if rng.random() < 0.4:
        shade = canvas * np.float32(0.72)
        canvas = blend(canvas, shade, coverage(shifted(grown(ink, 2), 4, 4)))
    canvas = blend(canvas, outline, coverage(grown(ink, 2)))
    return blend(canvas, fill, coverage(ink))


def painting(ink: Image.Image, rng: np.random.Generator) -> Floats:
    """Blobs of paint for glyph and ground, edges smeared along a wandering stroke, canvas weave."""
    ink_tone, ground_tone = colour_pair(rng, 0.4, 0.05, 0.95)
    ground = ground_tone + (noise(rng, 9, 3) - np.float32(0.5)) * np.float32(0.4)
    paint = ink_tone + (noise(rng, 12, 3) - np.float32(0.5)) * np.float32(0.38)
    smear = float(rng.uniform(3.0, 5.0))
    canvas = blend(ground, paint, np.minimum(coverage(grown(ink, 1)) * np.float32(1.1), np.float32(1)))
    canvas = _displaced(canvas, noise(rng, 14), noise(rng, 14), smear)
    strokes = noise(rng, 22)
    canvas = canvas + (strokes - np.float32(0.5))[..., None] * np.float32(0.2)
    levels = np.float32(rng.integers(5, 9))
    canvas = np.floor(canvas * levels + np.float32(0.5)) / levels
    woven: Floats = canvas + (stripes(rng, 4, 45) - np.float32(0.5))[..., None] * np.float32(0.06)
    return woven


def photo(ink: Image.Image, rng: np.random.Generator) -> Floats:
    """A lit, textured object on a cluttered ground: relief, soft shadow, blur and sensor noise."""
    object_colour, ground_colour = colour_pair(rng, 0.3, 0.15, 0.85)
    texture = (
        noise(rng, 5) * np.float32(0.5) + noise(rng, 11) * np.float32(0.3) + noise(rng, 24) * np.float32(0.2)
    )
    ground = ground_colour * (np.float32(0.6) + np.float32(0.8) * texture)[..., None]
    ground = ground + (noise(rng, 4, 3) - np.float32(0.5)) * np.float32(0.16)
    angle = float(rng.uniform(0, 2 * math.pi))
    light_x, light_y = math.cos(angle), math.sin(angle)
    shadow = coverage(blurred(shifted(ink, round(-4 * light_x), round(-4 * light_y)), 3))
    canvas = ground * (np.float32(1) - np.float32(0.5) * shadow)[..., None]
    height = coverage(blurred(ink, 2))
    relief = np.zeros_like(height)
    relief[1:-1, 1:-1] = np.float32(light_x) * (height[1:-1, :-2] - height[1:-1, 2:]) + np.float32(
        light_y
    ) * (height[:-2, 1:-1] - height[2:, 1:-1])
    surface = (
        object_colour
        * (np.float32(0.8) + np.float32(0.4) * noise(rng, 16) + np.float32(1.1) * relief)[..., None]
    )
    canvas = blend(canvas, surface, coverage(blurred(ink, float(rng.uniform(0.4, 1.6)))))
    axis = np.arange(CANVAS, dtype=np.float32) / np.float32(CANVAS) - np.float32(0.5)
    falloff = np.float32(light_x) * axis[None] + np.float32(light_y) * axis[:, None]
    canvas = canvas * (np.float32(1) + np.float32(rng.uniform(0.2, 0.7)) * falloff)[..., None]
    sensor = (grain(rng) + grain(rng) - np.float32(1)) * np.float32(rng.uniform(0.08, 0.22))
    noisy: Floats = canvas + sensor[..., None]
    return noisy


def sketch(ink: Image.Image, rng: np.random.Generator) -> Floats:
    """Pencil contours, drawn twice and not quite in the same place, hatching inside, on grainy paper."""
    paper = np.float32(0.82) + np.float32(0.16) * colour(rng)
    paper_grain = noise(rng, 32) * np.float32(0.5) + noise(rng, 6) * np.float32(0.5)
    pencil = np.float32(rng.uniform(0.05, 0.4)) + np.float32(0.06) * colour(rng)
    width = int(rng.integers(1, 3))
    contour = np.maximum(coverage(grown(ink, 1)) - coverage(grown(ink, -width)), 0)
    second = shifted(ink, int(rng.integers(-1, 2)), int(rng.integers(-1, 2)))
    contour = np.maximum(contour, np.float32(0.7) * (coverage(second) - coverage(grown(second, -1))))
    hatch = np.clip(
        (stripes(rng, float(rng.uniform(5, 8)), float(rng.uniform(20, 70))) - np.float32(0.45)) * 4, 0, 1
    )
    hatching = hatch * coverage(ink) * np.float32(rng.uniform(0.3, 0.75))
    stroke: Floats = np.maximum(contour, hatching) * (np.float32(0.55) + np.float32(0.6) * paper_grain)
    ground = np.float32(1) - np.float32(0.14) * (paper_grain * np.float32(0.5) + grain(rng) * np.float32(0.5))
    return blend(paper * ground[..., None], pencil, np.minimum(stroke, np.float32(1)))


def _badge(rng: np.random.Generator) -> Floats:
    """A large disc or upright box behind the glyph, [CANVAS, CANVAS]."""
    axis = np.abs(np.arange(CANVAS, dtype=np.float32) - np.float32((CANVAS - 1) / 2))
    radius = np.float32(rng.uniform(24, 31))
    if rng.random() < 0.5:
        inside = axis[None] * axis[None] + axis[:, None] * axis[:, None] < radius * radius
    else:
        inside = np.maximum(axis[None], axis[:, None]) < radius
    filled: Floats = inside.astype(np.float32)
    return filled


def _displaced(canvas: Floats, field_x: Floats, field_y: Floats, reach: float) -> Floats:
    """Every pixel fetched from up to reach/2 pixels away, along the two fields [CANVAS, CANVAS]."""
    rows, columns = np.indices((CANVAS, CANVAS), dtype=np.float32)
    y = np.clip(rows + (field_y - np.float32(0.5)) * np.float32(reach) + np.float32(0.5), 0, CANVAS - 1)
    x = np.clip(columns + (field_x - np.float32(0.5)) * np.float32(reach) + np.float32(0.5), 0, CANVAS - 1)
    moved: Floats = canvas[y.astype(np.intp), x.astype(np.intp)]
    return moved
