"""What strangers named, on a terminal: text alone."""

from orchestrator.printable.text import printable

__all__ = ["printable"]
