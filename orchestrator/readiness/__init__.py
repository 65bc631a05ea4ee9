"""Whether a running cluster is ready for a study. Imports neither Ray nor torch."""

from orchestrator.readiness.judge import Finding, judge
from orchestrator.readiness.probe import Answer, look_around, read_marks, write_mark

__all__ = ["Answer", "Finding", "judge", "look_around", "read_marks", "write_mark"]
