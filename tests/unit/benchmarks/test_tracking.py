"""The tables of benchmarks/tracking are what its results say."""

from __future__ import annotations

import json
from pathlib import Path

FOLDER = Path(__file__).parents[3] / "benchmarks" / "tracking"


def test_the_table_is_what_was_measured() -> None:
    page = (FOLDER / "README.md").read_text()
    results = json.loads((FOLDER / "results.json").read_text())["databases"]
    assert set(results) == {"sqlite", "postgresql"}
    for name, found in results.items():
        held = found["held"]
        values = held["metrics"] + held["params"] + held["tags"]
        row = (
            f"| {name} | {held['runs']:,} | {values:,} | {held['twice']} "
            f"| {found['values_per_second']:,.0f} | {found['trials_per_second']:.1f} "
            f"| {1000 * found['seconds_to_tell_a_trial']:.0f} ms | {found['server_away_s']:.0f} s |"
        )
        assert row in page, row
        assert held["runs"] == held["finished"] == 4 * found["trials"]
