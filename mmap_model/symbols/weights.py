"""The shipped CLIP (an open_clip `local-dir`) and the hashes that freeze it and the benchmark images."""

import functools
import hashlib
import json
from pathlib import Path

from mmap_model.symbols.renderer import DOMAINS, benchmark_images

CLIP_DIR = Path(__file__).parent / "clip"
"""Load with `open_clip.create_model_and_transforms(f"local-dir:{CLIP_DIR}")`."""


def benchmark_sha256() -> str:
    """SHA-256 over the raw bytes of all benchmark images, domain by domain (about 6 s on one core)."""
    digest = hashlib.sha256()
    for domain in DOMAINS:
        digest.update(benchmark_images(domain)[0].tobytes())
    return digest.hexdigest()


def weights_sha256() -> str:
    """SHA-256 of the shipped safetensors file."""
    return hashlib.sha256((CLIP_DIR / "open_clip_model.safetensors").read_bytes()).hexdigest()


@functools.cache
def frozen() -> dict[str, str]:
    """The record in frozen.json: benchmark_sha256, weights_sha256, date."""
    record: dict[str, str] = json.loads((Path(__file__).parent / "frozen.json").read_text(encoding="utf-8"))
    return record
