"""Rows of a ranking, made of numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from orchestrator.ledger import TrialRecord
from orchestrator.statistics.ranking import MeasuredRow, ranked_rows

Rank = Callable[..., list[MeasuredRow]]


@pytest.fixture
def rank() -> Rank:
    """Ranks complete trials of the given accuracies by seed, numbered in their order."""

    def ranked(*rows: Sequence[float], cells: Sequence[str] | None = None) -> list[MeasuredRow]:
        trials, records = [], {}
        for number, row in enumerate(rows):
            name = cells[number] if cells else f"t{number}"
            own = [{"key": f"{name}-{s}", "split": "3-shot", "seed": str(s)} for s in range(1, len(row) + 1)]
            records |= {c["key"]: {"metrics": {"accuracy": v}} for c, v in zip(own, row, strict=True)}
            trials.append(TrialRecord(number=number, state="complete", cells=own, parameters=9))
        return ranked_rows(trials, records, {})

    return ranked
