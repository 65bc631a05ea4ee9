"""Multi-modal alignment prompts (MmAP) for several related image tasks on a frozen CLIP.

The science only: backbones, prompted forwards, tuning methods, data and few-shot draws, task grouping, and
the training of one batch of cells. It knows nothing of clusters, searches or experiment trackers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmap_model.inference.loading import load as load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """``load``, which imports torch, when it is first asked for."""
    if name == "load":
        from mmap_model.inference.loading import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
