"""Cells and trials per hour of training."""

from __future__ import annotations

import pytest

from orchestrator.ledger import Invocation, TrialRecord
from orchestrator.statistics.pace import pace

TRIALS = [TrialRecord(number=n, state=s) for n, s in enumerate(("complete", "pruned", "failed", "running"))]


def test_pace_counts_what_was_trained_in_the_time_of_training() -> None:
    timing = {"total": 400.0, "start_up": 30.0, "confirm": 10.0, "training": 700.0}
    runs = [Invocation(id="1", trained=["a", "b", "c"], timing=timing), Invocation(id="2", trained=["d"])]
    assert pace(runs, TRIALS) == {"cells": pytest.approx(30), "trials": pytest.approx(20)}


@pytest.mark.parametrize("runs", [[], [Invocation(id="1")], [Invocation(id="1", timing={"total": 9.0})]])
def test_without_a_time_on_record_there_is_no_pace(runs: list[Invocation]) -> None:
    assert pace(runs, TRIALS) is None
