"""What every tuning method keeps, as checks that its author runs; imports torch and open_clip."""

from mmap_model.testing.method_contract import CHECKS, Subject, check_method
from mmap_model.testing.patterns import PatternDataset

__all__ = ["CHECKS", "PatternDataset", "Subject", "check_method"]
