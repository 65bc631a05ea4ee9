"""Faults of what MLflow keeps and of what stands before it: deleted, replaced, refusing, hanging."""

from __future__ import annotations

import shutil
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from mlflow_server import Server
from scene import Scene

from kinds.base import NOT_RECEIVED, Place, Row, fault, row, runs_missing
from orchestrator.work.shown import EpochShown

REFUSING_S = 20.0
HANGING_S = 120.0
PAGE = b"<html><body><h1>Bad gateway</h1></body></html>"


class Proxy:
    """A proxy before a real MLflow server.

    Attributes:
        mode: a status to answer with, ``hang``, or None to pass requests on.
        refused: requests answered with a status.
    """

    def __init__(self, target: str) -> None:
        proxy = self
        self.mode: int | str | None = None
        self.refused = 0

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                until = time.monotonic() + HANGING_S
                while proxy.mode == "hang" and time.monotonic() < until:
                    time.sleep(0.2)
                if isinstance(proxy.mode, int):
                    proxy.refused += 1
                    return self._reply(proxy.mode, {"Content-Type": "text/html"}, PAGE)
                headers = {n: v for n, v in self.headers.items() if n.lower() not in ("host", "connection")}
                request = urllib.request.Request(
                    target + self.path, data=body or None, headers=headers, method=self.command
                )
                try:
                    with urllib.request.urlopen(request, timeout=60) as found:
                        return self._reply(found.status, dict(found.headers), found.read())
                except urllib.error.HTTPError as error:
                    return self._reply(error.code, dict(error.headers), error.read())

            do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = _answer

            def _reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.uri = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()


@fault("MLflow experiment deleted in the page", group="stores")
def experiment_deleted(place: Place) -> Row:
    def strike(scene: Scene, server: Server) -> None:
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=server.uri)
        experiment = client.get_experiment_by_name(scene.folder.name)
        assert experiment is not None
        client.delete_experiment(experiment.experiment_id)

    return _kept(place, "experiment-deleted", strike)


@fault("MLflow runs deleted in the page", group="stores")
def runs_deleted(place: Place) -> Row:
    def strike(scene: Scene, server: Server) -> None:
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=server.uri)
        for run in scene.mlflow_runs():
            client.delete_run(run.info.run_id)

    return _kept(place, "runs-deleted", strike)


@fault("MLflow's database replaced by an empty one", group="stores")
def database_replaced(place: Place) -> Row:
    def strike(scene: Scene, server: Server) -> None:
        server.kill()
        shutil.copy(place.database, scene.folder / "server.db")
        server.start()

    return _kept(place, "database-replaced", strike)


def _kept(place: Place, name: str, strike: Callable[[Scene, Server], None]) -> Row:
    """Strike what MLflow has of a study in its middle; the study goes on."""
    folder = place.folder / name
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(place.database, folder / "server.db")
    server = Server(folder)
    server.start()
    scene = place.scene(name, "search.trials=8", epoch_s=0.8, uri=server.uri)

    def act() -> None:
        scene.wait(scene.mlflow_runs)
        scene.strike()
        strike(scene, server)
        scene.mend()

    try:
        scene.when(act, EpochShown, trial=1, epoch=2)
        outcome = scene.run()
        missing = runs_missing(scene)
        if missing:  # what the same command makes of it
            outcome = scene.run()
        return row(
            scene,
            f"{missing} runs missing at the study's end, {runs_missing(scene)} after the same command again",
            0.0,
            outcome,
            told=NOT_RECEIVED if missing else None,
            mlflow_runs_missing=runs_missing(scene),
        )
    finally:
        server.kill()


def _refusing(place: Place, name: str, mode: int | str, seconds: float) -> Row:
    folder = place.folder / name
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(place.database, folder / "server.db")
    server = Server(folder)
    server.start()
    proxy = Proxy(server.uri)
    scene = place.scene(name, "search.trials=12", epoch_s=1.0, uri=proxy.uri)
    trained = [0]

    def act() -> None:
        scene.wait(scene.mlflow_runs)
        scene.strike()
        before = len(scene.lines())
        proxy.mode = mode
        time.sleep(seconds)
        trained[0] = len(scene.lines()) - before
        proxy.mode = None
        scene.mend()

    try:
        scene.when(act, EpochShown, trial=0, epoch=2)
        outcome = scene.run()
        missing = runs_missing(scene)
        if missing:  # what the next run of the same command makes of it
            outcome = scene.run()
        return row(
            scene,
            f"{trained[0]} epochs of cells trained meanwhile; {missing} runs missing at the end, "
            f"{runs_missing(scene)} after the same command again",
            None,
            outcome,
            told=NOT_RECEIVED if missing else None,
            mlflow_runs_missing=runs_missing(scene),
        )
    finally:
        proxy.close()
        server.kill()


@fault(f"MLflow answers 500 for {REFUSING_S:.0f} s", group="stores")
def answers_500(place: Place) -> Row:
    return _refusing(place, "answers-500", 500, REFUSING_S)


@fault(f"MLflow answers 429 for {REFUSING_S:.0f} s", group="stores")
def answers_429(place: Place) -> Row:
    return _refusing(place, "answers-429", 429, REFUSING_S)


@fault(f"a proxy answers 400 with a page for {REFUSING_S:.0f} s", group="stores")
def answers_400(place: Place) -> Row:
    return _refusing(place, "answers-400", 400, REFUSING_S)


@fault(f"MLflow hangs for {HANGING_S:.0f} s", group="stores")
def hangs(place: Place) -> Row:
    return _refusing(place, "server-hangs", "hang", HANGING_S)


@fault("outbox truncated behind what was acknowledged", group="stores")
def outbox_truncated(place: Place) -> Row:
    """Cut to nothing after a finished run; the study then goes on with more trials."""
    scene = place.scene("outbox-truncated")
    scene.run()
    scene.strike()
    segments = sorted((scene.folder / "runs" / "studies" / scene.folder.name / "local").rglob("*.jsonl"))
    assert segments, "there is an outbox"
    for segment in segments:
        segment.write_bytes(b"")
    scene.overrides.append("search.trials=6")
    scene.mend()
    outcome = scene.run()
    missing = runs_missing(scene)
    return row(
        scene,
        f"{missing} of the study's runs are missing in the end",
        scene.next_epoch(scene.mended),
        outcome,
        told=NOT_RECEIVED if missing else None,
        mlflow_runs_missing=missing,
    )
