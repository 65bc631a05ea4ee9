"""How a row is shown: its latest numbers with their interval over seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.ledger import TrialRecord
from orchestrator.statistics.epochs import latest_scored
from orchestrator.statistics.summary import Summary, seed_means, summarize
from orchestrator.work.shown import TrialShown, TrialStage


def trial_shown(record: TrialRecord, values: Mapping[str, Any], state: TrialStage) -> TrialShown:
    """What a person is shown of a row.

    Args:
        record: of the row as it stands.
        values: of what was searched, by name.
        state: where it stands.
    """
    latest = latest_scored(record.epochs)
    summary = None if latest is None else _summary(record, latest)
    return TrialShown(
        number=record.number,
        state=state,
        values=values,
        parameters=record.parameters,
        mean=None if latest is None else latest["mean"],
        low=None if summary is None else summary.low,
        high=None if summary is None else summary.high,
        n=0 if summary is None else summary.n,
        error=record.error,
        violated=tuple(record.violated),
        epochs=record.point.get("recipe", {}).get("epochs"),
    )


def _summary(record: TrialRecord, epoch: Mapping[str, Any]) -> Summary | None:
    """Of an epoch over seeds; None where it does not say what each cell reached."""
    values = epoch.get("values") or ()
    if not values or None in values or len(values) != len(record.cells):
        return None
    places = ((cell["split"], cell["seed"]) for cell in record.cells)
    means = seed_means(dict(zip(places, values, strict=True)))
    return summarize(list(means.values())) if means else None
