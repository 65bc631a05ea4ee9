"""How fast a study went so far: what one more hour of the same machine would add."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from orchestrator.ledger import Invocation, TrialRecord

HOUR = 3600.0

ASIDE = ("start_up", "confirm")
"""Parts of an invocation's time in which nothing is trained."""


def pace(invocations: Iterable[Invocation], trials: Sequence[TrialRecord]) -> dict[str, float] | None:
    """Cells finished and trials ended per hour of training, over all runs whose time is on record.

    Cells of trials that were stopped early took time and count as trials alone.

    Returns:
        ``{cells, trials}``; None where no time is on record or nothing was trained.
    """
    cells, hours = 0, 0.0
    for invocation in invocations:
        if total := invocation.timing.get("total"):
            seconds = total - sum(invocation.timing.get(part, 0.0) for part in ASIDE)
            cells, hours = cells + len(invocation.trained), hours + max(seconds, 0.0) / HOUR
    ended = sum(trial.state in ("complete", "pruned") for trial in trials)
    if not cells or hours <= 0:
        return None
    return {"cells": cells / hours, "trials": ended / hours}
