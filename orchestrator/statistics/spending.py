"""Budgets of a study and what has been spent of them, from its records alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from orchestrator.ledger import Invocation, StudyStore

if TYPE_CHECKING:
    from orchestrator.study.search import Search

HOUR = 3600.0


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Of one invocation, or of all.

    Attributes:
        seconds: of wall clock in which a driver ran; nothing between two invocations counts.
        device_seconds: in which slots were at work, summed over slots.
        gpu_seconds: the same, each times the GPUs (or the fraction of one) of its slot.
    """

    seconds: float = 0.0
    device_seconds: float = 0.0
    gpu_seconds: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(**{name: value + getattr(other, name) for name, value in vars(self).items()})

    def to_dict(self) -> dict[str, float]:
        return {name: round(value, 3) for name, value in vars(self).items()}


@dataclass(frozen=True, kw_only=True)
class Budgets:
    """What may be spent; None: no limit."""

    hours: float | None = None
    gpu_hours: float | None = None

    @classmethod
    def of(cls, search: Search) -> Budgets:
        """Of a study's settings."""
        return cls(hours=search.hours, gpu_hours=search.gpu_hours)

    def reached(self, spent: Spent) -> str | None:
        """The budget that is spent, in words; None if there is still some of each."""
        if self.hours is not None and spent.seconds >= self.hours * HOUR:
            return f"search.hours = {self.hours:g}"
        if self.gpu_hours is not None and spent.gpu_seconds >= self.gpu_hours * HOUR:
            return f"search.gpu_hours = {self.gpu_hours:g}"
        return None


def spent_before(store: StudyStore, *, but: str = "") -> Spent:
    """Of all recorded invocations, one excepted.

    The latest driver summed up what was spent before it: one that it replaced may have been stopped since and
    count hours in which it did nothing. Invocations of earlier versions recorded no spending: of them the
    wall clock counts, from start to end; one that was killed has no end.
    """
    spending, opening = store.load_spending(), store.opening()
    if opening.spent is not None:
        last = spending.get(opening.invocation) if opening.invocation != but else None
        return Spent(**opening.spent) + Spent(**(last or {}))
    total = Spent()
    for invocation in store.load_invocations():
        if invocation.id != but:
            known = spending.get(invocation.id)
            total += Spent(**known) if known is not None else Spent(seconds=_wall_clock(invocation))
    return total


def budgets(study: Mapping[str, Any], trials: int, spent: Spent) -> dict[str, dict[str, float | None]]:
    """Per budget ``{spent, limit}``: ``trials``, ``hours``, ``gpu_hours``; ``device_hours`` have no limit.

    Args:
        study: ``Study.to_plain()``, perhaps of an earlier version.
        trials: started so far.
        spent: in all invocations.
    """
    search = study.get("search", {})
    return {
        "trials": {"spent": trials, "limit": search.get("trials")},
        "hours": {"spent": spent.seconds / HOUR, "limit": search.get("hours")},
        "gpu_hours": {"spent": spent.gpu_seconds / HOUR, "limit": search.get("gpu_hours")},
        "device_hours": {"spent": spent.device_seconds / HOUR, "limit": None},
    }


def in_words(found: Mapping[str, Mapping[str, float | None]]) -> str:
    """``12 of 20 trials, 0.52 of 2 hours, 0.4 GPU-hours``; budgets neither spent nor limited are left out."""
    names = {"trials": "trials", "hours": "hours", "gpu_hours": "GPU-hours"}
    return ", ".join(_amount(found[key], name) for key, name in names.items() if any(found[key].values()))


def _amount(budget: Mapping[str, float | None], name: str) -> str:
    spent = f"{budget['spent'] or 0:.3g}"
    return f"{spent} {name}" if budget["limit"] is None else f"{spent} of {budget['limit']:g} {name}"


def _wall_clock(invocation: Invocation) -> float:
    if invocation.ended_at is None:
        return float(invocation.timing.get("total", 0.0))
    start, end = (datetime.fromisoformat(t) for t in (invocation.started_at, invocation.ended_at))
    return max(0.0, (end - start).total_seconds())
