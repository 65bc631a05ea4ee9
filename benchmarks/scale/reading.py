"""How long do ``status``, ``results`` and ``clean`` take on a large study?

    python benchmarks/scale/reading.py --trials 5000 --latency 0

The study's records are made up, three cells a trial; see ``resume.py`` for ``--latency``.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from resume import SlowStorage, fill
from rich.console import Console

from orchestrator.cleaning import remove, survey
from orchestrator.cli.status import describe
from orchestrator.face.stored import Stored
from orchestrator.ledger import Ledger, StudyStore
from orchestrator.reports.ranking import report
from orchestrator.statistics.ranking import build_results
from orchestrator.tables.terminal import render


def measure(root: Path, trials: int, latency: float) -> dict[str, Any]:
    """Seconds of each command, without the start of its process."""
    os.environ["XDG_CACHE_HOME"] = str(root.parent / "cache")
    plan = fill(root, 3 * trials)
    storage = SlowStorage(root, latency)
    store = StudyStore(storage, plan.study.name)
    store.save_study(plan.study.to_plain())
    stored = Stored(plan.study, store, Ledger(storage))
    seconds: dict[str, float] = {}

    def timed(name: str, call: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        found = call()
        seconds[name] = round(time.perf_counter() - started, 2)
        return found

    assert timed("status", lambda: describe(stored))["trials"]["complete"] == trials - 1
    console = Console(file=io.StringIO(), width=100)
    timed("results", lambda: console.print(render(report(build_results(store, stored.ledger)), 100)))
    found = timed("clean, looking", lambda: survey(storage))
    assert found.studies[0].trials == trials, "every record is seen"
    leaving = survey(storage, studies=[store.name])
    items = [item for item in leaving.items if item.category == "cells"]
    gone = timed("clean, removing all cells", lambda: remove(storage, items, {item.path for item in items}))
    return {
        "trials": trials,
        "cells": 3 * trials,
        "latency_s": latency,
        "seconds": seconds,
        "removed": len(gone),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=5000)
    parser.add_argument("--latency", type=float, default=0.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder) / "runs", arguments.trials, arguments.latency)
    json.dump(found, sys.stdout, indent=2)


if __name__ == "__main__":
    main()
