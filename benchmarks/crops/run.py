"""What do sharp training crops take of disk and time, beside crops from images shrunk to a limit?

    uv run python benchmarks/crops/run.py

Generates photographs in sizes spread like Office-Home's domains, decodes them as training does, and writes
results.json beside this file. One thread.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mmap_model.data.augment import Augmentation, crop_resize_each
from mmap_model.data.decoding import open_image, training_original
from orchestrator.work.provenance import provenance

SIZE, VIEWS = 224, 8
CROPS = Augmentation(whole_pixels=True)
DOMAINS = {
    "art": (750, (117, 4384)),
    "clipart": (600, (18, 2400)),
    "product": (600, (63, 2560)),
    "real_world": (600, (80, 6500)),
}
"""By domain: the median of the longer side and its range, both assumed."""

SPREAD = 0.6
"""Standard deviation of the logarithm of the longer side, assumed."""

TRAINED = 4 * 65 * 12 * 3
"""Images of Office-Home that three seeds of 12 shots train on at most: domains, classes, shots, seeds."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=480)
    count = parser.parse_args().images
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="mmap-crops-") as folder:
        rows = [measure(path, number) for number, path in enumerate(photographs(Path(folder), count))]
    whole, shrunk = ([r for r in rows if r["shrunk"] is kept] for kept in (False, True))
    before, now = (sum(row[name] for row in rows) / count for name in ("bytes_before", "bytes_now"))
    result = {
        "images": count,
        "longer_side": {
            "median": statistics.median(r["longer"] for r in rows),
            "most": max(r["longer"] for r in rows),
        },
        "share_shrunk": {
            "before": sum(r["longer"] >= 4 * SIZE for r in rows) / count,
            "now": len(shrunk) / count,
        },
        "megabytes_an_image": {
            "jpeg": mean(rows, "bytes_jpeg") / 1e6,
            "before": before / 1e6,
            "now": now / 1e6,
        },
        "most_megabytes": {"before": most(rows, "bytes_before"), "now": most(rows, "bytes_now")},
        "gigabytes_of_office_home": {
            "images": TRAINED,
            "before": before * TRAINED / 1e9,
            "now": now * TRAINED / 1e9,
        },
        "milliseconds_to_decode": {
            "before": 1e3 * mean(rows, "decoding_before"),
            "now": 1e3 * mean(rows, "decoding_now"),
        },
        "milliseconds_a_crop": {
            "before": 1e3 * mean(rows, "crop_before"),
            "now": 1e3 * mean(rows, "crop_now"),
            "now_whole": 1e3 * mean(whole, "crop_now"),
            "now_shrunk": 1e3 * mean(shrunk, "crop_now") if shrunk else None,
        },
        "load_average_after": os.getloadavg(),
        **provenance(),
    }
    print(json.dumps(result, indent=1))
    Path(__file__).with_name("results.json").write_text(json.dumps(result, indent=1) + "\n")


def photographs(folder: Path, count: int) -> list[Path]:
    """JPEGs of smooth colours with grain; as many of each domain."""
    paths = []
    for number in range(count):
        rng = np.random.default_rng(number)
        median, (least, largest) = list(DOMAINS.values())[number % len(DOMAINS)]
        longer = int(np.clip(median * np.exp(SPREAD * rng.normal()), least, largest))
        shorter = max(16, int(longer * rng.uniform(0.6, 1.0)))
        width, height = (longer, shorter) if rng.random() < 0.5 else (shorter, longer)
        coarse = Image.fromarray(rng.integers(0, 256, (height // 14 + 2, width // 14 + 2, 3), np.uint8))
        smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BILINEAR), np.int16)
        grain = rng.integers(-9, 10, (height, width, 1), np.int16)
        path = folder / f"{number}.jpg"
        Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)).save(path, quality=88)
        paths.append(path)
    return paths


def measure(path: Path, number: int) -> dict[str, Any]:
    """Bytes and seconds of one image, kept as before and as now."""
    started = time.perf_counter()
    image = open_image(path, path.name)
    decoding = time.perf_counter() - started
    height, width = image.height, image.width
    kept, seconds = {}, {}
    for name, keep in (("before", averaged), ("now", sharp)):
        started = time.perf_counter()
        kept[name] = np.asarray(keep(image))
        seconds[name] = decoding + time.perf_counter() - started
    noise = torch.from_numpy(np.random.default_rng(number).random((VIEWS, CROPS.noise)))
    crops = {}
    for name, pixels in kept.items():
        # Before, boxes were drawn on what was kept; now on the image itself.
        drawn = pixels.shape[:2] if name == "before" else (height, width)
        boxes, mirrored = CROPS.crops(noise, torch.tensor([drawn]).expand(VIEWS, 2))
        scale = np.array(pixels.shape[:2]) / np.array(drawn)
        own = boxes.numpy() * np.concatenate([scale, scale])
        started = time.perf_counter()
        crop_resize_each([pixels] * VIEWS, own, mirrored.numpy(), SIZE)
        crops[name] = (time.perf_counter() - started) / VIEWS
    return {
        "longer": max(height, width),
        "shrunk": kept["now"].shape[:2] != (height, width),
        "bytes_jpeg": path.stat().st_size,
        **{f"bytes_{name}": pixels.nbytes for name, pixels in kept.items()},
        **{f"decoding_{name}": value for name, value in seconds.items()},
        **{f"crop_{name}": value for name, value in crops.items()},
    }


def sharp(image: Image.Image) -> Image.Image:
    return training_original(image, CROPS.smallest(image.height, image.width), SIZE)


def averaged(image: Image.Image) -> Image.Image:
    """The rule before: from four times the view on, averaged to two to three times the view."""
    factor = max(image.size) // (2 * SIZE)
    return image.reduce(factor) if factor > 1 else image


def mean(rows: list[dict[str, Any]], name: str) -> float:
    return statistics.fmean(row[name] for row in rows)


def most(rows: list[dict[str, Any]], name: str) -> float:
    return max(row[name] for row in rows) / 1e6


if __name__ == "__main__":
    main()
