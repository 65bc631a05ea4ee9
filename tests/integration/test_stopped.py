"""A worker, the pool and the driver stand still for a while (SIGSTOP): rows of the faults, in small."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

# Quick: slots/test_pool_deaths, test_slot_worker and test_silence let workers and pools stand still on clocks
# of their own, test_fences and test_lease drivers.
pytestmark = [pytest.mark.ray, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
FAULTS = ROOT / "benchmarks" / "faults"


def play(folder: Path, *names: str) -> list[dict[str, Any]]:
    """The rows of faults that share a group, from a process of their own."""
    out = folder / "rows.jsonl"
    path = os.pathsep.join(map(str, (FAULTS, ROOT / "tests" / "integration", ROOT)))
    done = subprocess.run(
        [sys.executable, str(FAULTS / "child.py"), *names, "--folder", str(folder), "--out", str(out)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "STOPPED_S": "6"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert out.exists(), done.stdout + done.stderr
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == len(names), done.stdout + done.stderr
    return rows


@pytest.mark.parametrize("name", ["worker_stopped", "pool_stopped", "driver_stopped"])
def test_nothing_is_lost_or_done_twice_while_a_process_stands_still(name: str, tmp_path: Path) -> None:
    (found,) = play(tmp_path, name)
    assert "error" not in found, found["error"]
    counts = ("cells_lost", "cells_finished_twice", "epochs_repeated", "mlflow_duplicates")
    assert [found[count] for count in counts] == [0, 0, 0, 0], found
    assert found["outcome"] == "complete"
    if name == "driver_stopped":
        assert found["trials_overwritten"] == 0 and found["mlflow_overwritten"] == 0
        assert found["told"], found["seen"]
