"""What is wrong with a dataset's images, and what would be done about it. No torch."""

from mmap_model.data.check.report import Report, check_source
from mmap_model.data.check.shots import Shots

__all__ = ["Report", "Shots", "check_source"]
