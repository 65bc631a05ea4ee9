"""The recorded self-tests are within their bounds and are what the page says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "benchmarks" / "selftest"


@pytest.mark.parametrize("name", ["marks", "winner", "power"])
def test_recorded_figures_are_within_their_bounds_and_on_the_page(name: str) -> None:
    found = json.loads((FOLDER / f"{name}.json").read_text())
    page = (FOLDER / "README.md").read_text()
    assert found["checks"] and all(check["holds"] for check in found["checks"])
    assert f"{found['repeats']:,}" in page and found["provenance"]["commit"]
    if name == "winner":
        bias = [
            c["reached"] for c in found["checks"] if c["measure"] == "estimate of the first less its truth"
        ]
        assert all(f"{value:.3f}".replace("-", "\N{MINUS SIGN}") in page for value in bias)
