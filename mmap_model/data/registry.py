"""Datasets by name: those that register themselves, and every layout of images as one. No torch here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from mmap_model.data.dataset import Dataset, DatasetSpec, DatasetSummary, default_cache_dir
from mmap_model.data.halves import HalfOfClasses
from mmap_model.data.sources import is_layout, source_names
from mmap_model.data.sources.registry import CUSTOM
from mmap_model.errors import DatasetError, nearest

Opener = Callable[[DatasetSpec, Path], Dataset]
_REGISTRY: dict[str, Opener] = {}


def register_dataset(name: str, opener: Opener) -> None:
    """Add a dataset under a name. Raises DatasetError if the name is taken."""
    if name in dataset_names():
        raise DatasetError(f"dataset {name!r} is registered twice", fix="choose another name")
    _REGISTRY[name] = opener


def dataset_names() -> tuple[str, ...]:
    """All registered names, those of layouts included, sorted."""
    return tuple(sorted({*_REGISTRY, *source_names()}))


def open_dataset(spec: DatasetSpec, cache_dir: Path | str | None = None) -> Dataset:
    """Open a dataset; what it derives once is kept under ``cache_dir`` (default: `default_cache_dir`).

    Raises:
        DatasetError: unknown name or task, missing root, or files that do not form a dataset.
    """
    if spec.class_half != "all":
        return HalfOfClasses(open_dataset(replace(spec, class_half="all"), cache_dir), spec.class_half)
    folder = default_cache_dir() if cache_dir is None else Path(cache_dir)
    if spec.name in _REGISTRY:
        return _REGISTRY[spec.name](spec, folder)
    if is_layout(spec.name):
        from mmap_model.data.sourced import open_sourced  # pyarrow takes a moment to import

        return open_sourced(spec, folder)
    raise DatasetError(
        f"unknown dataset {spec.name!r}",
        where="dataset.name",
        fix=f"{nearest(spec.name, dataset_names())}; {CUSTOM}",
    )


def dataset_summary(spec: DatasetSpec, cache_dir: Path | str | None = None) -> DatasetSummary:
    """Tasks, class lists, images per class and manifest of a dataset, without torch."""
    return open_dataset(spec, cache_dir).summary
