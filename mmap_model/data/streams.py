"""Random streams keyed by names: equal keys give equal numbers, whatever was drawn before."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt


def stream(*key: str | int) -> np.random.Generator:
    """A Philox generator keyed by the SHA-256 of ``key``; ``("a", 1)`` and ``("a", "1")`` differ."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


def permutation(count: int, *key: str | int) -> npt.NDArray[np.int64]:
    """A uniform permutation of ``range(count)``.

    It sorts raw 64-bit draws instead of calling ``Generator.permutation``, whose algorithm numpy may change.
    """
    bits = stream(*key).bit_generator.random_raw(count)
    return np.argsort(bits, kind="stable").astype(np.int64)
