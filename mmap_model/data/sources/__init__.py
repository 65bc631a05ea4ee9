"""Layouts of images on disk. Importing this registers them all."""

from mmap_model.data.sources import coop, folder, office_home, split_lists, table  # noqa: F401
from mmap_model.data.sources.base import Source
from mmap_model.data.sources.registry import (
    get_layout,
    is_layout,
    list_source,
    open_source,
    register_source,
    source_names,
)

__all__ = [
    "Source",
    "get_layout",
    "is_layout",
    "list_source",
    "open_source",
    "register_source",
    "source_names",
]
