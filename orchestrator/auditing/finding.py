"""What an audit finds: a record, a number in it, what is stored and what follows from the predictions."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that does not follow.

    Attributes:
        severity: errors fail an audit, warnings do with ``--strict``.
        record: path of the record below the storage.
        problem: what is wrong, as a sentence without a full stop.
        number: the field, where a number is wrong.
        stored, recomputed: its values.
    """

    severity: Severity = "error"
    record: str
    problem: str
    number: str = ""
    stored: Any = None
    recomputed: Any = None

    @property
    def text(self) -> str:
        """What is wrong, with both values."""
        if not self.number:
            return self.problem
        return f"{self.number} is stored as {_shown(self.stored)}, {self.problem} {_shown(self.recomputed)}"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def differs(
    record: str, number: str, stored: Any, recomputed: Any, *, problem: str = "its predictions give"
) -> Finding:
    """An error: a stored value that is not the recomputed one."""
    return Finding(record=record, number=number, problem=problem, stored=stored, recomputed=recomputed)


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
