"""The table of faults is what its results say, and no fault is without one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "benchmarks" / "faults"


def test_every_fault_has_a_row_as_it_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (ROOT / "tests" / "integration", FOLDER):
        monkeypatch.syspath_prepend(str(path))
    forget()
    import render

    results = json.loads((FOLDER / "results.json").read_text())
    assert set(results["faults"]) == set(render.FAULTS)
    assert render.table(results) in (FOLDER / "README.md").read_text()
    forget()


def forget() -> None:
    """Other benchmarks have modules of these names."""
    for name in list(sys.modules):
        if name.split(".")[0] in ("catalogue", "kinds", "render", "scene"):
            del sys.modules[name]
