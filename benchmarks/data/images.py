"""Generated photographs: smooth colours with grain, as large and as hard to decode as a camera's."""

from __future__ import annotations

import io
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = 10
WIDTHS, HEIGHTS = (300, 520), (300, 440)


def write_tree(root: Path, count: int) -> None:
    """``<root>/photo/<class>/<number>.jpg``: ``count`` JPEGs, all different, 300 pixels wide or more."""
    for label in range(CLASSES):
        (root / "photo" / f"class_{label}").mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(_write, [root] * count, range(count), chunksize=100))


def _write(root: Path, number: int) -> None:
    rng = np.random.default_rng(number)
    width, height = int(rng.integers(*WIDTHS)), int(rng.integers(*HEIGHTS))
    coarse = Image.fromarray(rng.integers(0, 256, (height // 14, width // 14, 3), np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BILINEAR), np.int16)
    grain = rng.integers(-9, 10, (height, width, 1), np.int16)
    buffer = io.BytesIO()
    Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=88)
    (root / "photo" / f"class_{number % CLASSES}" / f"{number:06d}.jpg").write_bytes(buffer.getvalue())
