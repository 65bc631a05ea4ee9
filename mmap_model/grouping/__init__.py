"""From measured task affinity to groups of tasks (paper, eq. 8). Importing this does not import torch."""

from mmap_model.grouping.affinity import GramStack, ResolvedPartition, resolve_partition
from mmap_model.grouping.partition import Solution, best_partition
from mmap_model.grouping.probe import check_probe, probe_configuration

__all__ = [
    "GramStack",
    "ResolvedPartition",
    "Solution",
    "best_partition",
    "check_probe",
    "probe_configuration",
    "resolve_partition",
]
