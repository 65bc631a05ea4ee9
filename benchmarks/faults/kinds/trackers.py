"""Faults of MLflow."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from typing import Any

from mlflow_server import Server
from scene import Scene

from kinds.base import OUTAGE_S, Place, Row, fault, row, runs_missing
from orchestrator.work.shown import EpochShown

LOCKED_S = 30.0
"""Longer than the 20 s for which MLflow's sqlite waits for a lock."""


@fault(f"MLflow server stopped for {OUTAGE_S:.0f} s", group="stores")
def mlflow_server(place: Place) -> Row:
    folder = place.folder / "mlflow-server"
    folder.mkdir(parents=True, exist_ok=True)
    server = Server(folder)
    server.start()
    scene = place.scene("mlflow-server", "search.trials=20", epoch_s=1.4, uri=server.uri)

    def strike() -> None:
        server.kill()
        scene.strike()

    try:
        return tracking_row(scene, strike, OUTAGE_S, server.start)
    finally:
        server.kill()


@fault(f"tracking database locked for {LOCKED_S:.0f} s", group="stores")
def tracking_database(place: Place) -> Row:
    scene = place.scene("tracking-database", "search.trials=24", epoch_s=1.0)
    held: list[sqlite3.Connection] = []

    def strike() -> None:
        held.append(sqlite3.connect(scene.folder / "mlflow.db", check_same_thread=False, timeout=20))
        held[0].execute("BEGIN EXCLUSIVE")
        scene.strike()

    return tracking_row(scene, strike, LOCKED_S, lambda: held[0].close())


def tracking_row(scene: Scene, strike: Callable[[], None], seconds: float, mend: Callable[[], None]) -> Row:
    found: dict[str, Any] = {}

    def act() -> None:
        assert scene.tracker is not None
        scene.wait(scene.mlflow_runs)
        strike()
        before = len(scene.lines())
        time.sleep(seconds)
        found["error"] = scene.tracker.last_error
        found["trained"] = len(scene.lines()) - before
        mend()
        scene.mend()
        scene.wait(lambda: scene.tracker.flush(0.1))
        found["after"] = round(time.time() - scene.mended, 1)

    scene.when(act, EpochShown, trial=0, epoch=2)
    outcome = scene.run()
    lost = runs_missing(scene)
    detected = f"{found['error'] or 'the call waits'}; {found['trained']} epochs of cells trained meanwhile"
    return row(scene, detected, found["after"], outcome, told=None, mlflow_runs_missing=lost)
