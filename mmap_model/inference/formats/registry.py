"""Formats by name."""

from __future__ import annotations

from collections.abc import Mapping

from mmap_model.errors import ConfigurationError, nearest
from mmap_model.inference.formats.base import ExportFormat
from mmap_model.inference.formats.classifier import ClassifierFormat
from mmap_model.inference.formats.onnx import OnnxFormat
from mmap_model.inference.formats.open_clip import OpenClipFormat
from mmap_model.inference.formats.prompts import PromptsFormat
from mmap_model.inference.formats.torch_export import TorchExportFormat

FORMATS: Mapping[str, ExportFormat] = {
    found.name: found
    for found in (PromptsFormat(), ClassifierFormat(), TorchExportFormat(), OnnxFormat(), OpenClipFormat())
}


def format_of(name: str, where: str = "format") -> ExportFormat:
    """The format of that name. Raises ConfigurationError if there is none."""
    if name not in FORMATS:
        raise ConfigurationError(f"unknown format {name!r}", where=where, fix=nearest(name, FORMATS))
    return FORMATS[name]
