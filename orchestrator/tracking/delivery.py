"""What became of operations that were handed to a writer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from orchestrator.tracking.outbox import Operation

Reasoned = tuple[Operation, str]
"""An operation, and why it was not taken, in the server's words."""


@dataclass
class Delivery:
    """Operations that are not named here were taken.

    Attributes:
        refused: MLflow said that it will never take them.
        undecided: something answered that is not MLflow, or it failed at these alone: worth another try.
        lost: an experiment or a run was not where it was; all of the study has to be told again.
    """

    refused: list[Reasoned] = field(default_factory=list)
    undecided: list[Reasoned] = field(default_factory=list)
    lost: bool = False

    def add(self, other: Delivery) -> None:
        """Take in what became of further operations."""
        self.refused += other.refused
        self.undecided += other.undecided
        self.lost = self.lost or other.lost


class Writer(Protocol):
    """Where operations go; ``ProcessWriter`` in earnest. Any call may raise: the server is away."""

    def open(self) -> str | None:
        """Connect; what the store remembers of this study (``finish``), None if it never heard of it."""
        ...

    def write(self, operations: Sequence[Operation], *, late: bool = False) -> Delivery:
        """Apply operations; ``late`` ones were overtaken by others and say nothing of a run's status."""
        ...

    def finish(self, mark: str) -> None:
        """Let the store remember ``mark``: the study has been told up to there."""
        ...

    def close(self) -> None:
        """Nothing more will come."""
        ...
