"""Training and scoring one batch of cells; plain Python, no cluster, no tracker."""

from mmap_model.training.fusion import fusable
from mmap_model.training.results import CellResult
from mmap_model.training.run import EpochReport, FusedRun, RunInterrupted
from mmap_model.training.scoring import score_test

__all__ = ["CellResult", "EpochReport", "FusedRun", "RunInterrupted", "fusable", "score_test"]
