"""The shipped CLIPs (open_clip `local-dir`s) and the hashes that freeze them and the benchmarks' images."""

import functools
import hashlib
import json
import time
from pathlib import Path

from mmap_model.symbols.renderer import DOMAINS, benchmark_images

CLIP_DIR = Path(__file__).parent / "clip"
"""Load with `open_clip.create_model_and_transforms(f"local-dir:{CLIP_DIR}")`."""
LONG_CLIP_DIR = Path(__file__).parent / "clip_long"
"""The same of the second CLIP, which was trained longer."""
_FROZEN = Path(__file__).parent / "frozen.json"


def benchmark_sha256() -> str:
    """SHA-256 over the raw bytes of all benchmark images, domain by domain (about 6 s on one core)."""
    digest = hashlib.sha256()
    for domain in DOMAINS:
        digest.update(benchmark_images(domain)[0].tobytes())
    return digest.hexdigest()


def weights_sha256(folder: Path = CLIP_DIR) -> str:
    """SHA-256 of the shipped safetensors file in a folder."""
    return hashlib.sha256((folder / "open_clip_model.safetensors").read_bytes()).hexdigest()


@functools.cache
def frozen() -> dict[str, str]:
    """The record in frozen.json.

    ``benchmark_sha256``, ``weights_sha256`` and their ``date``; the same of the tasks with known groups and
    of the second CLIP, with their names before: ``groups_sha256``, ``long_weights_sha256``.
    """
    record: dict[str, str] = json.loads(_FROZEN.read_text(encoding="utf-8"))
    return record


def freeze(**hashes: str) -> None:
    """Write hashes into frozen.json, each under its name, with the date of the day."""
    today = time.strftime("%Y-%m-%d", time.gmtime())
    dates = {name.removesuffix("_sha256") + "_date": today for name in hashes}
    record = {**json.loads(_FROZEN.read_text(encoding="utf-8")), **hashes, **dates}
    _FROZEN.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
