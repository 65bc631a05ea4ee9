"""Recorded logs of the demo, and how their gaps are measured."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "benchmarks" / "silence"
LOGS = sorted((FOLDER / "results").glob("*.log"))
SCRIPT = runpy.run_path(str(FOLDER / "run.py"))


@pytest.mark.parametrize("log", LOGS, ids=lambda path: path.stem)
def test_no_recorded_log_is_silent_for_longer_than_fifteen_seconds(log: Path) -> None:
    found = SCRIPT["measure"](log.read_text())
    recorded = json.loads(log.with_suffix(".json").read_text())
    assert found == {name: recorded[name] for name in found}
    assert found["largest_gap_s"] <= SCRIPT["LONGEST_S"] and found["lines"] > 50
    assert {"ray", "search", "finalists"} <= found["largest_gap_s_by_phase"].keys()


def test_a_gap_counts_for_the_phase_in_which_it_began() -> None:
    log = """2026-01-01T00:00:00Z phase phase=ray: starting Ray
2026-01-01T00:00:16Z phase phase=slots: starting the slots
words of another program
2026-01-01T00:00:18Z note: text
"""
    found = SCRIPT["measure"](log)
    assert found["largest_gap_s_by_phase"] == {"ray": 16.0, "slots": 2.0}
    assert (found["lines"], found["seconds"], found["largest_gap_s"]) == (3, 18.0, 16.0)
