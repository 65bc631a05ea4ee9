"""Datasets of several tasks, and the few-shot draws from them. Importing this does not import torch."""

from mmap_model.data import sources, symbols  # noqa: F401  (each registers itself)
from mmap_model.data.dataset import Dataset, DatasetSpec, DatasetSummary, TaskInfo, default_cache_dir
from mmap_model.data.draws import Draw, draw
from mmap_model.data.registry import dataset_names, dataset_summary, open_dataset, register_dataset

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
