"""Formats of artefacts, one file each, by name."""

from mmap_model.inference.formats.base import ExportFormat, LoadOptions
from mmap_model.inference.formats.registry import FORMATS, format_of

__all__ = ["FORMATS", "ExportFormat", "LoadOptions", "format_of"]
