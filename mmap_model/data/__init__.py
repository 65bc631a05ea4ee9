"""Datasets of several tasks, and the few-shot draws from them. Importing this does not import torch."""

from mmap_model.data import sources, symbols  # noqa: F401  (each registers itself)
from mmap_model.data.dataset import (
    Dataset,
    DatasetSpec,
    DatasetSummary,
    TaskInfo,
    dataset_names,
    dataset_summary,
    default_cache_dir,
    open_dataset,
    register_dataset,
)
from mmap_model.data.draws import Draw, draw

__all__ = [
    "Dataset",
    "DatasetSpec",
    "DatasetSummary",
    "Draw",
    "TaskInfo",
    "dataset_names",
    "dataset_summary",
    "default_cache_dir",
    "draw",
    "open_dataset",
    "register_dataset",
]
