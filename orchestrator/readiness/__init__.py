"""Whether a running cluster is ready for a study. Imports neither Ray nor torch."""

from orchestrator.readiness.judge import ReadinessFinding, judge
from orchestrator.readiness.probe import NodeAnswer, look_around, read_marks, write_mark

__all__ = ["NodeAnswer", "ReadinessFinding", "judge", "look_around", "read_marks", "write_mark"]
