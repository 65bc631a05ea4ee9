"""The CLIPs that come with the package."""

from __future__ import annotations

from mmap_model.architecture import SHIPPED


def packaged_clips() -> tuple[str, ...]:
    """Their model names, the first one first."""
    return tuple(SHIPPED)
