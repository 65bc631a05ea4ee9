"""Styles outside the benchmark; pretraining meets the 65 benchmark classes only in these. Same interface."""

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
    stripes,
)


def plain(ink: Image.Image, rng: np.random.Generator) -> Floats:
    """Black on white, as printed type."""
    paper = np.float32(rng.uniform(0.9, 1.0)) * np.ones((CANVAS, CANVAS, 3), np.float32)
    return blend(paper, np.full(3, rng.uniform(0, 0.15), np.float32), coverage(ink))


def icon(ink: Image.Image, rng: np.random.Generator) -> Floats:
    """Two colours, no outline: a road sign or an app icon, light on dark or dark on light."""
    fill, ground = colour_pair(rng, 0.3)
    return blend(np.broadcast_to(ground, (CANVAS, CANVAS, 3)).astype(np.float32), fill, coverage(ink))


def neon(ink: Image.Image, rng: np.random.Generator) -> Floats:
    """Bright tubes along the contour with a halo on a night ground."""
    glow = colour(rng, 0.2, 1.0)
    glow[rng.integers(3)] = 1.0
    night = colour(rng, 0.0, 0.15)
    tube = np.maximum(coverage(grown(ink, 1)) - coverage(grown(ink, -2)), 0)
    halo = coverage(blurred(grown(ink, 1), float(rng.uniform(3, 6))))
    canvas = night + glow * (np.float32(0.65) * halo)[..., None]
    return blend(canvas, np.float32(0.45) + np.float32(0.55) * glow, tube)


def stamp(ink: Image.Image, rng: np.random.Generator) -> Floats:
    """Worn rubber stamp: one ink with gaps on warm paper."""
    inks = np.array([[0.7, 0.1, 0.1], [0.1, 0.15, 0.55], [0.08, 0.08, 0.1], [0.1, 0.4, 0.2]], np.float32)
    pad = inks[rng.integers(4)] + np.float32(0.1) * colour(rng)
    paper = np.array([0.95, 0.91, 0.82], np.float32) - np.float32(0.08) * colour(rng)
    wear = noise(rng, 10) * np.float32(0.5) + grain(rng) * np.float32(0.5)
    held = np.clip((np.float32(rng.uniform(0.6, 0.78)) - wear) * 6, 0.05, 1)
    return blend(np.broadcast_to(paper, (CANVAS, CANVAS, 3)).astype(np.float32), pad, coverage(ink) * held)


def chalk(ink: Image.Image, rng: np.random.Generator) -> Floats:
    """Chalk strokes on a green or black board with wiped traces."""
    board = np.array([[0.12, 0.28, 0.2], [0.13, 0.14, 0.16]], np.float32)[rng.integers(2)] + np.float32(
        0.05
    ) * colour(rng)
    stick = np.float32(0.75) + np.float32(0.25) * colour(rng)
    wiped = (noise(rng, 5) * np.float32(0.12))[..., None]
    dust = np.clip(np.float32(1.5) - np.float32(1.4) * grain(rng), 0, 1)
    return blend(board + wiped, stick, coverage(grown(ink, int(rng.integers(0, 2)))) * dust)


def mosaic(ink: Image.Image, rng: np.random.Generator) -> Floats:
    """Small tiles of two glazes with joints between them."""
    tile = 4
    glaze, ground = colour_pair(rng, 0.3, 0.05, 0.95)
    small = ink.reduce(tile).resize((CANVAS, CANVAS), Image.Resampling.NEAREST)
    canvas = blend(np.broadcast_to(ground, (CANVAS, CANVAS, 3)).astype(np.float32), glaze, coverage(small))
    cells = CANVAS // tile
    tones = np.repeat(np.repeat(rng.random((cells, cells), dtype=np.float32), tile, 0), tile, 1)
    canvas = canvas * (np.float32(0.8) + np.float32(0.35) * tones)[..., None]
    joint = (np.arange(CANVAS) % tile == 0).astype(np.float32)
    tiled: Floats = (
        canvas * (np.float32(1) - np.float32(0.35) * np.maximum(joint[None], joint[:, None]))[..., None]
    )
    return tiled


def embroidery(ink: Image.Image, rng: np.random.Generator) -> Floats:
    """Slanted stitches of shiny thread on cloth."""
    thread, cloth = colour_pair(rng, 0.25, 0.1, 0.95)
    weave = stripes(rng, 4, 0) * stripes(rng, 4, 90)
    ground = cloth * (np.float32(0.8) + np.float32(0.3) * weave)[..., None]
    stitch = stripes(rng, float(rng.uniform(4, 6)), float(rng.uniform(30, 60)))
    sheen = np.float32(0.6) + np.float32(0.6) * stitch
    ground = ground * (np.float32(1) - np.float32(0.4) * coverage(blurred(grown(ink, 1), 1)))[..., None]
    return blend(ground, thread, coverage(ink)) * (1 + (sheen - 1) * coverage(ink))[..., None]


def blueprint(ink: Image.Image, rng: np.random.Generator) -> Floats:
    """White contour on blue paper with a grid."""
    blue = np.array([0.08, 0.25, 0.6], np.float32) + np.float32(0.12) * colour(rng)
    period = int(rng.integers(6, 11))
    rule = (np.arange(CANVAS) % period == 0).astype(np.float32)
    grid = np.maximum(rule[None], rule[:, None]) * np.float32(rng.uniform(0.1, 0.25))
    contour = np.maximum(coverage(grown(ink, 1)) - coverage(grown(ink, -1)), 0)
    fill = coverage(ink) * np.float32(rng.uniform(0.1, 0.4))
    canvas = blue + (np.float32(1) - blue) * grid[..., None]
    return blend(canvas, np.full(3, 0.95, np.float32), np.maximum(contour, fill))


def engraving(ink: Image.Image, rng: np.random.Generator) -> Floats:
    """Cut into metal or stone: the glyph is only seen by its lit and shaded edges and a slight tone."""
    tone = np.float32(rng.uniform(0.35, 0.65)) + np.float32(0.15) * colour(rng)
    surface = tone * (np.float32(0.85) + np.float32(0.3) * noise(rng, 20))[..., None]
    height = coverage(blurred(ink, 1))
    edge = np.zeros_like(height)
    edge[1:-1, 1:-1] = height[2:, 2:] - height[:-2, :-2]
    depth = np.float32(rng.uniform(0.15, 0.35)) * coverage(ink)
    carved: Floats = surface * (np.float32(1) - depth)[..., None] + (edge * np.float32(0.5))[..., None]
    return carved


def poster(ink: Image.Image, rng: np.random.Generator) -> Floats:
    """Halftone print: dots of one ink over bands of colour."""
    pigment, ground = colour_pair(rng, 0.3, 0.1, 1.0)
    wave = stripes(rng, float(rng.uniform(20, 50)), float(rng.uniform(0, 180))) * np.float32(3)
    bands: Floats = np.divide(np.floor(wave), np.float32(3), dtype=np.float32)
    canvas = ground * (np.float32(0.85) + np.float32(0.2) * bands)[..., None]
    degrees = float(rng.uniform(0, 90))
    dots = stripes(rng, 5, degrees) * stripes(rng, 5, degrees + 90)
    raster: Floats = np.clip(np.float32(1.4) - np.float32(0.9) * dots, 0, 1)
    return blend(canvas, pigment, coverage(ink) * raster)
