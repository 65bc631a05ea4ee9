"""Make the images and fixed lists that the studies in this folder are about, always the same bytes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

TASKS, CLASSES, IMAGES = ("ink", "paint"), ("anchor", "bell", "key"), 12
SEEDS, SHOTS = (1, 2), 2


def make_images(folder: Path) -> None:
    """Write 12 uncompressed images of 32 pixels per task and class to ``folder``/<task>/<class>."""
    for t, task in enumerate(TASKS):
        for c, name in enumerate(CLASSES):
            for number in range(IMAGES):
                rng = np.random.Generator(np.random.PCG64([t, c, number]))
                pixels = rng.integers(0, 96, (32, 32, 3), dtype=np.uint8)
                pixels[8 : 24 - 4 * c, 4 + 4 * c : 28, t] += 128
                path = folder / task / name / f"{number:02d}.bmp"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)


def make_lists(folder: Path) -> None:
    """Write fixed lists: images 8 to 11 of a class test, whatever the seed; seeds draw from the others."""
    for task in TASKS:
        (folder / task).mkdir(parents=True, exist_ok=True)
        for seed in SEEDS:
            of = {"train": [seed, seed + 1], "validation": [seed + 3, seed + 4], "test": range(8, 12)}
            for part, numbers in of.items():
                lines = [
                    f"{task}/{name}/{number:02d}.bmp {label}"
                    for label, name in enumerate(CLASSES)
                    for number in numbers
                ]
                path = folder / task / f"{part}_{SHOTS}-shot_seed{seed}.txt"
                path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    make_images(Path(sys.argv[1]) / "images")
    make_lists(Path(sys.argv[1]) / "lists")
