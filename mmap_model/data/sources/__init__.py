"""Layouts of images on disk. Importing this registers them all."""

from mmap_model.data.sources.base import (
    OfficialSplit,
    Source,
    open_source,
    register_source,
    source_names,
)

__all__ = ["OfficialSplit", "Source", "open_source", "register_source", "source_names"]
