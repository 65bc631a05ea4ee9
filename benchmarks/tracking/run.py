"""How fast does MLflow take what a study tells, and does all arrive if its server is gone for a minute?

    uv run python benchmarks/tracking/run.py

Needs Debian's package ``postgresql``. Tells 300 made-up trials of 3 cells, through the outbox and the courier
that a driver has, to a real MLflow server as ``orchestrator ui`` starts it, once on SQLite and once on
PostgreSQL. After half of them the server is ended for 60 s, and the trials go on. Writes results.json beside
this file.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from databases import DATABASES, free_port, missing
from story import Held, Listener, connection, held, tell, tracker_to

from orchestrator.pages.served import Served
from orchestrator.tracking import Tracker
from orchestrator.tracking.mlflow.backend import Mlflow
from orchestrator.tracking.process import BackendProcess
from orchestrator.work.provenance import provenance

TRIALS, OUTAGE_S = 300, 60.0
PATIENCE_S = 1800.0


def measure(name: str, trials: int, outage: float) -> dict[str, Any]:
    """Tell one database. Fails if anything is missing or there twice."""
    with DATABASES[name]() as uri, tempfile.TemporaryDirectory() as folder:
        port = free_port()
        page = Mlflow.page(uri, "127.0.0.1", port)

        def server() -> Served:
            return Served(
                page.command,
                page.address,
                host="127.0.0.1",
                port=port,
                variables={**page.variables, "MLFLOW_DISABLE_TELEMETRY": "true"},
                health=page.health,
            )

        half = trials // 2
        with server() as served:
            served.wait()
            tracker = tracker_to(lambda: BackendProcess(connection(page.address)), Path(folder))
            tell(tracker, 0)
            _delivered(tracker)  # the client has started
            before, began = held(uri), time.monotonic()
            for trial in range(1, half):
                tell(tracker, trial)
            telling = time.monotonic() - began
            _delivered(tracker)
            seconds = time.monotonic() - began
            taken = held(uri).values - before.values
        gone = time.monotonic()
        for trial in range(half, trials):
            tell(tracker, trial)
        telling += time.monotonic() - gone
        assert not tracker.flush(0.1), "there is nobody to deliver to"
        time.sleep(max(0.0, outage - (time.monotonic() - gone)))
        with server() as served:
            served.wait()
            away = time.monotonic() - gone
            told = tracker.close(PATIENCE_S)
            assert told.note is None, told.note
        found = held(uri)
        check(found, trials)
    return {
        "trials": trials,
        "cells": 3 * trials,
        "held": asdict(found),
        "values_per_second": round(taken / seconds, 1),
        "trials_per_second": round((half - 1) / seconds, 2),
        "seconds_to_tell_a_trial": round(telling / (trials - 1), 5),
        "server_away_s": round(away, 1),
    }


def check(found: Held, trials: int) -> None:
    """Raise AssertionError unless a database holds what was told, once."""
    with tempfile.TemporaryDirectory() as folder:
        listener = Listener()
        tracker = tracker_to(lambda: listener, Path(folder))
        for trial in range(trials):
            tell(tracker, trial)
        assert tracker.close(60.0).note is None
    assert found.runs == found.finished == len(listener.runs) == 4 * trials, (found, len(listener.runs))
    assert found.metrics == len(listener.points), (found.metrics, len(listener.points))
    assert found.params == len(listener.params), (found.params, len(listener.params))
    assert found.twice == 0, f"{found.twice} are there twice"


def _delivered(tracker: Tracker) -> None:
    assert tracker.flush(PATIENCE_S), tracker.last_error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--outage", type=float, default=OUTAGE_S, help="seconds without a server")
    parser.add_argument("--databases", nargs="+", choices=[*DATABASES], default=[*DATABASES])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results.json"))
    options = parser.parse_args()
    results: dict[str, Any] = {}
    for name in options.databases:
        if (lacking := missing(name)) is not None:
            raise SystemExit(lacking)
        results[name] = measure(name, options.trials, options.outage)
        print(name, json.dumps(results[name]), flush=True)
        options.out.write_text(
            json.dumps({"provenance": provenance(), "databases": results}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
